//! The Botanalytics API.
