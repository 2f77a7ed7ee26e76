//! The body of a request: the events in a form, perhaps compressed.

use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::unusable;
use crate::error::Error;
use crate::sink::Batch;
use crate::sink::format::Format;
use crate::zip::Compressor;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// How the body of a request is compressed. A receiver has to say that it takes that: nothing asks
/// it, and one that does not mostly answers 415 or 400.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// It is not.
    #[default]
    None,
    /// `Content-Encoding: gzip` (feature `gzip`).
    Gzip,
    /// `Content-Encoding: zstd` (RFC 8878).
    Zstd,
}

/// How bodies are made.
#[derive(Clone, Debug)]
pub(in crate::sink) struct Maker {
    format: Format,
    compression: Compression,
}

impl Maker {
    /// # Errors
    /// [`Error::Sink`] if the form has settings that cannot be used, or this build cannot compress
    /// like that.
    pub(in crate::sink) fn new(format: Format, compression: Compression) -> Result<Self, Error> {
        format.check()?;
        if compression == Compression::Gzip && !cfg!(feature = "gzip") {
            return Err(unusable(
                "this build has no gzip: enable the feature `gzip` of everpost, or take zstd",
            ));
        }
        Ok(Self {
            format,
            compression,
        })
    }

    pub(super) fn format(&self) -> &Format {
        &self.format
    }

    /// What a request says of its body.
    pub(in crate::sink) fn describe(&self, headers: &mut HeaderMap) {
        let value = HeaderValue::from_static(self.format.content_type());
        headers.insert(CONTENT_TYPE, value);
        let encoding = match self.compression {
            Compression::None => return,
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }

    /// The body; none if there is no memory to compress it.
    pub(super) fn body(&self, batch: &Batch) -> Option<Bytes> {
        let body = self.format.body(batch);
        let body = match self.compression {
            Compression::None => Some(body),
            Compression::Gzip => gzip(&body),
            Compression::Zstd => Compressor::new(ZSTD_LEVEL).compress(&body),
        };
        body.map(Bytes::from)
    }
}

#[cfg(feature = "gzip")]
fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    use std::io::Write as _;

    use flate2::write::GzEncoder;

    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(not(feature = "gzip"))]
fn gzip(_: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, StoredEvent};

    fn batch() -> Batch {
        let json = format!("\"{}\"", "x".repeat(10_000));
        let event = Event::json(json).unwrap();
        Batch::new(vec![StoredEvent { seq: 1, event }]).unwrap()
    }

    #[test]
    fn what_is_compressed_is_what_would_have_been_sent() {
        let plain = Format::Array.body(&batch());
        for compression in [Compression::Zstd, Compression::Gzip] {
            let maker = Maker::new(Format::Array, compression);
            if compression == Compression::Gzip && !cfg!(feature = "gzip") {
                assert!(maker.unwrap_err().to_string().contains("feature `gzip`"));
                continue;
            }
            let body = maker.unwrap().body(&batch()).unwrap();
            assert!(body.len() < 1_000, "{compression:?}: {}", body.len());
            let again = match compression {
                Compression::Zstd => {
                    crate::zip::decompress(&body, u32::try_from(plain.len()).unwrap())
                }
                _ => inflate(&body),
            };
            assert!(again.unwrap() == plain, "{compression:?}");
        }
    }

    #[cfg(feature = "gzip")]
    fn inflate(body: &[u8]) -> Option<Vec<u8>> {
        use std::io::Read as _;

        let mut bytes = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(body);
        decoder.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    #[cfg(not(feature = "gzip"))]
    fn inflate(_: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
