//! The group that may append to a spool through a socket of its own.

use std::path::Path;

use everpost::control::{self, GroupSocket};

use crate::fault::Fault;

/// The socket for the group of this name or number.
pub(crate) fn group_socket(group: &str, socket: Option<&Path>) -> Result<GroupSocket, Fault> {
    let path = match (socket, std::env::var_os("RUNTIME_DIRECTORY")) {
        (Some(socket), _) => socket.to_owned(),
        // There may be several, with colons between them.
        (None, Some(dirs)) => {
            let dirs = dirs.to_string_lossy();
            Path::new(dirs.split(':').next().unwrap_or_default()).join(control::SOCKET)
        }
        (None, None) => {
            let text = "no place is named for the socket of the group";
            let hint = "add --socket PATH, such as /run/everpost/control.sock";
            return Err(Fault::usage(text).hint(hint));
        }
    };
    Ok(GroupSocket::new(path, gid(group)?))
}

/// The number of a group. Names are looked up where the system keeps its own groups.
pub(crate) fn gid(group: &str) -> Result<u32, Fault> {
    /// One line for each: `name:password:number:members`.
    const GROUPS: &str = "/etc/group";
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let groups = std::fs::read(GROUPS).unwrap_or_default();
    let groups = String::from_utf8_lossy(&groups);
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(group);
        fields.nth(1).filter(|_| is_it)?.parse().ok()
    });
    named.ok_or_else(|| {
        let text = format!("no such group in {GROUPS}. group=`{group}`");
        Fault::usage(text).hint("name another one, or the number of a group that is kept elsewhere")
    })
}

#[cfg(test)]
mod tests {
    use everpost::exit;

    use super::*;

    #[test]
    fn a_group_has_a_number_or_a_name() {
        assert_eq!(gid("54321").unwrap(), 54_321);
        assert_eq!(gid("root").unwrap(), 0);
        let unknown = gid("no such:group").unwrap_err();
        assert_eq!(unknown.code, exit::USAGE);
        assert!(unknown.text.contains("no such:group"), "{unknown}");
    }
}
