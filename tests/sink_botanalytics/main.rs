//! The shipped sink against real sockets.

#[cfg(test)]
mod early;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod presets;
#[cfg(test)]
mod receivers;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod server;
#[cfg(test)]
mod set_up;
#[cfg(test)]
mod table;
