//! The sandbox, tested over real sockets: what it promises to those who test with it.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod record;
