//! zstd frames, written and read: the one door to the C library, and to the codec in Rust that does
//! its work without the feature `zstd`.

#[cfg(feature = "zstd")]
use std::cell::RefCell;
use std::io::Read;

#[cfg(feature = "zstd")]
use zstd::bulk::Decompressor;

/// Bytes of a run for which there is memory before it is known to be one. Chunks are smaller but
/// for those of one very large append.
#[cfg(feature = "zstd")]
const AT_ONCE_BYTES_MAX: u32 = 8 << 20;

/// Compresses at one level. What that takes of memory is kept from one frame to the next.
pub(crate) struct Compressor {
    /// Of the C library; the codec in Rust has one alone.
    #[cfg(feature = "zstd")]
    level: i32,
    #[cfg(feature = "zstd")]
    context: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    #[cfg(feature = "zstd")]
    pub(crate) const fn new(level: i32) -> Self {
        let context = None;
        Self { level, context }
    }

    #[cfg(not(feature = "zstd"))]
    pub(crate) const fn new(_: i32) -> Self {
        Self {}
    }

    /// The bytes as one frame; `None` if there is no memory for it.
    #[cfg(feature = "zstd")]
    pub(crate) fn compress(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let context = match &mut self.context {
            Some(context) => context,
            None => {
                let made = zstd::bulk::Compressor::new(self.level).ok()?;
                self.context.insert(made)
            }
        };
        context.compress(bytes).ok()
    }

    /// The bytes as one frame; `None` if what it makes of them is not read as the same.
    #[cfg(not(feature = "zstd"))]
    pub(crate) fn compress(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        compress_in_rust(bytes)
    }
}

/// What is in one frame, which is to have so many bytes; `None` if it is no frame, or has more or
/// fewer.
#[cfg(feature = "zstd")]
pub(crate) fn decompress(frame: &[u8], run_bytes: u32) -> Option<Vec<u8>> {
    thread_local! {
        /// Made once for each thread that reads: making one costs as much as a tenth of a chunk.
        static CONTEXT: RefCell<Decompressor<'static>> = RefCell::default();
    }
    if run_bytes > AT_ONCE_BYTES_MAX {
        return bounded(zstd::stream::read::Decoder::new(frame).ok()?, run_bytes);
    }
    let run = CONTEXT.with_borrow_mut(|context| context.decompress(frame, run_bytes as usize));
    run.ok().filter(|run| run.len() == run_bytes as usize)
}

#[cfg(not(feature = "zstd"))]
pub(crate) fn decompress(frame: &[u8], run_bytes: u32) -> Option<Vec<u8>> {
    decompress_in_rust(frame, run_bytes)
}

/// What is in frames that do not say how much that is: at most so many bytes, else `None`.
#[cfg(feature = "sandbox")]
pub(crate) fn decompress_up_to(frames: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    #[cfg(feature = "zstd")]
    let reader = zstd::stream::read::Decoder::new(frames).ok()?;
    #[cfg(not(feature = "zstd"))]
    let reader = ruzstd::decoding::StreamingDecoder::new(frames).ok()?;
    reader.take(most).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= bytes_max).then_some(bytes)
}

/// Compresses without the C library. The encoder of ruzstd is young, so its frame is read again
/// before it is trusted with events: one that does not give the same bytes, or panics, is not
/// used, and the run is stored as it is.
#[cfg(any(test, not(feature = "zstd")))]
pub(crate) fn compress_in_rust(run: &[u8]) -> Option<Vec<u8>> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    let frame =
        std::panic::catch_unwind(|| compress_to_vec(run, CompressionLevel::Fastest)).ok()?;
    let again = decompress_in_rust(&frame, u32::try_from(run.len()).ok()?)?;
    (again == run).then_some(frame)
}

/// Reads a frame without the C library.
#[cfg(any(test, not(feature = "zstd")))]
pub(crate) fn decompress_in_rust(frame: &[u8], run_bytes: u32) -> Option<Vec<u8>> {
    // A panic of the decoder on damaged bytes is one more way of saying that they are damaged.
    std::panic::catch_unwind(|| {
        bounded(
            ruzstd::decoding::StreamingDecoder::new(frame).ok()?,
            run_bytes,
        )
    })
    .ok()?
}

/// Reads at most one byte more than there should be, so that a frame which lies about its length
/// costs no more memory than an honest one.
fn bounded(reader: impl Read, run_bytes: u32) -> Option<Vec<u8>> {
    let mut run = Vec::with_capacity(run_bytes.min(1 << 20) as usize);
    reader
        .take(u64::from(run_bytes) + 1)
        .read_to_end(&mut run)
        .ok()?;
    (run.len() == run_bytes as usize).then_some(run)
}
