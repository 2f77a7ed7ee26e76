//! The main job, through the public API alone: a real queue on a real directory, the shipped
//! sink, and the sandbox over real sockets.

#[cfg(test)]
#[path = "../common/mod.rs"]
mod common;

#[cfg(test)]
mod ages;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod outcomes;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod retry_after;
#[cfg(test)]
mod shaped;
#[cfg(test)]
mod slow_link;
#[cfg(test)]
mod still_clock;
