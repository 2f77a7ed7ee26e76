//! The local stand-in for the API.
