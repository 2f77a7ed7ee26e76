//! The fuzz targets over their committed corpus: every seed, and every input that ever broke one.
//!
//! `CORPUS_WRITE=1 cargo test --test corpus` writes the seeds anew, from the spool in
//! `tests/golden` and from the cases below. Other files in the corpus are left alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test that fails shows its input")]

mod remote;

use std::fs;
use std::path::{Path, PathBuf};

#[expect(unreachable_pub, reason = "they are the library of the fuzz targets")]
#[path = "../../fuzz/judges/lib.rs"]
mod fuzz;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn golden() -> PathBuf {
    root().join("tests/golden/v1")
}

/// Feeds a target with its corpus, one file after the other, each named before it is.
fn feed(target: &str, seeds: Vec<(String, Vec<u8>)>, fuzz: impl Fn(&[u8])) {
    let dir = root().join("fuzz/corpus").join(target);
    if std::env::var("CORPUS_WRITE").is_ok() {
        fs::create_dir_all(&dir).unwrap();
        for (name, bytes) in &seeds {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
    let mut fed = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        fuzz(&fs::read(path).unwrap());
        fed += 1;
    }
    assert!(fed >= seeds.len(), "{fed} of {} seeds", seeds.len());
    println!("\nPROVED inputs={fed} panics=0");
}

fn named(name: &str, bytes: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.into())
}

/// A journal file behind the id of its queue.
fn with_queue(file: &[u8]) -> Vec<u8> {
    let marker = fs::read_to_string(golden().join("spool.json")).unwrap();
    let id = marker
        .split('"')
        .find_map(|text| text.parse::<uuid::Uuid>().ok());
    [id.unwrap().as_bytes(), file].concat()
}

fn journal_seeds() -> Vec<(String, Vec<u8>)> {
    let read = |name: &str| fs::read(golden().join("journal").join(name)).unwrap();
    let mut seeds = vec![
        named("empty", []),
        named("no-file", with_queue(&[])),
        named("zeroes", with_queue(&[0; 256])),
        named("end", with_queue(&read("end"))),
    ];
    for number in 1..=3 {
        let file = read(&format!("{number:08}.journal"));
        seeds.push((format!("front-{number}"), with_queue(&file[..1600])));
        let mut holed = file[..1600].to_vec();
        holed[400..440].fill(0);
        seeds.push((format!("holed-{number}"), with_queue(&holed)));
        // In the middle of an event, where nothing but the checksum knows.
        let mut altered = file[..1600].to_vec();
        if let Some(at) = position(&altered, b"golden golden") {
            altered[at] ^= 1;
            seeds.push((format!("altered-{number}"), with_queue(&altered)));
        }
    }
    // Frames with numbers at the edge of what there is; the target puts the checksums right.
    let books = |appended: u64, delivered: u64| {
        let mut body = [0; 48];
        body[..8].copy_from_slice(&appended.to_le_bytes());
        body[8..16].copy_from_slice(&delivered.to_le_bytes());
        frame(1, &body)
    };
    let run = |first: u64, count: u32| {
        let mut body = [&first.to_le_bytes()[..], &count.to_le_bytes()].concat();
        for _ in 0..count {
            body.extend_from_slice(&[0; 24]);
            body.extend_from_slice(&[1, 0, 0, 0, b'1']);
        }
        frame(2, &body)
    };
    let empty = frame(
        2,
        &[&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0][..], &[0; 28]].concat(),
    );
    seeds.extend([
        named(
            "books-at-the-end-of-numbers",
            with_queue(&books(u64::MAX, 0)),
        ),
        named(
            "books-that-settle-all-numbers",
            with_queue(&books(1, u64::MAX)),
        ),
        named(
            "books-that-settle-more-than-there-is",
            with_queue(&books(3, 9)),
        ),
        named(
            "run-at-the-end-of-numbers",
            with_queue(&run(u64::MAX - 2, 2)),
        ),
        named("run-of-an-event-of-no-bytes", with_queue(&empty)),
        named("packed-that-is-none", with_queue(&frame(5, &[9; 90]))),
        named("run-from-zero", with_queue(&run(0, 1))),
        named("run-of-none", with_queue(&run(5, 0))),
        named(
            "run-after-a-gap",
            with_queue(&[run(1, 2), run(9, 1), run(4, 2)].concat()),
        ),
    ]);
    seeds
}

fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

/// A frame of generation 1 whose place and checksum are still to be put right.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 32];
    frame[4..8].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    frame[8] = 1;
    frame[24] = kind;
    frame.extend_from_slice(body);
    frame.resize(frame.len().next_multiple_of(8), 0);
    frame
}

#[test]
fn i8_the_corpus_of_the_journal_is_read_without_a_wrong_word() {
    feed("journal", journal_seeds(), fuzz::journal);
}

fn chunk_seeds() -> Vec<(String, Vec<u8>)> {
    // As `docs/format.md` has it.
    let plain = [
        &[1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0x47, 0, 0, 0][..],
        &[0x0d, 0x76, 0x6c, 0xa6, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
        &[3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'1'],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4],
        &[4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'2', b'2'],
    ]
    .concat();
    let mut future = plain.clone();
    future[0] = 2;
    let mut altered = plain.clone();
    altered[62] ^= 1;
    let mut last_number = plain.clone();
    last_number[2..10].copy_from_slice(&u64::MAX.to_le_bytes());
    last_number[22..30].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut many = plain.clone();
    many[10..14].fill(0xff);
    many[30..34].fill(0xff);
    let mut long = plain.clone();
    long[14..18].fill(0x3f);
    // The chunk of the golden segment is one piece of it: 27 bytes of the piece, then the chunk.
    let db = fs::read(golden().join("segments/00000000000000000009/db")).unwrap();
    let is_chunk = |window: &[u8]| window == [0xf5, b'e', b'p', 1, b'c'];
    let at = db.windows(5).position(is_chunk).unwrap();
    let len = u32::from_le_bytes(db[at + 15..at + 19].try_into().unwrap()) as usize;
    let zstd = &db[at + 27..at + 27 + len];
    vec![
        named("empty", []),
        named("plain", plain.clone()),
        named("plain-cut", &plain[..60]),
        named("head-alone", &plain[..22]),
        named("altered", altered),
        named("future", future),
        named("at-the-end-of-numbers", last_number),
        named("count-that-cannot-be", many),
        named("length-that-cannot-be", long),
        named("zstd", zstd),
        named("zstd-cut", &zstd[..zstd.len() - 9]),
        named("zstd-and-more", [zstd, zstd].concat()),
    ]
}

#[test]
fn i8_the_corpus_of_chunks_is_read_without_a_wrong_word() {
    feed("chunk", chunk_seeds(), fuzz::chunk);
}

fn spool_seeds() -> Vec<(String, Vec<u8>)> {
    const FLIP: u8 = 0;
    const ZERO: u8 = 2;
    const CUT: u8 = 3;
    const MORE: u8 = 4;
    const COPY: u8 = 5;
    const SWAP: u8 = 6;
    const REMOVE: u8 = 7;
    let at = |what: u8, file: u8, at: u16, value: u8, len: u8| {
        let [low, high] = at.to_le_bytes();
        [what, file, low, high, value, len]
    };
    // The files by their place among the sorted ones: the journal's 0 to 2, its end 3, the
    // segment's conf and db 4 and 5, the two marks 6 and 7, the state's conf and db 8 and 9.
    let cases: [(&str, &[[u8; 6]]); 23] = [
        ("whole", &[]),
        ("a-bit-in-a-pending-event", &[at(FLIP, 0, 2620, 1, 0)]),
        (
            "a-bit-in-each-journal-file",
            &[
                at(FLIP, 0, 900, 1, 0),
                at(FLIP, 1, 900, 2, 0),
                at(FLIP, 2, 900, 4, 0),
            ],
        ),
        ("a-hole-in-the-journal", &[at(ZERO, 1, 2048, 0, 20)]),
        (
            "a-torn-end-without-the-end",
            &[at(REMOVE, 3, 0, 0, 0), at(ZERO, 2, 3000, 0, 255)],
        ),
        ("the-end-alone-is-gone", &[at(REMOVE, 3, 0, 0, 0)]),
        ("the-end-is-empty", &[at(CUT, 3, 0, 0, 0)]),
        (
            "journal-files-in-each-others-place",
            &[at(SWAP, 0, 0, 1, 0), at(SWAP, 1, 0, 2, 0)],
        ),
        ("a-journal-file-twice", &[at(COPY, 0, 0, 1, 255)]),
        (
            "no-journal",
            &[
                at(REMOVE, 0, 0, 0, 0),
                at(REMOVE, 0, 0, 0, 0),
                at(REMOVE, 0, 0, 0, 0),
            ],
        ),
        (
            "no-journal-and-no-end",
            &[
                at(REMOVE, 0, 0, 0, 0),
                at(REMOVE, 0, 0, 0, 0),
                at(REMOVE, 0, 0, 0, 0),
                at(REMOVE, 0, 0, 0, 0),
            ],
        ),
        ("a-journal-file-cut-short", &[at(CUT, 2, 1000, 0, 0)]),
        ("a-journal-file-too-long", &[at(MORE, 1, 0, 0xaa, 200)]),
        ("a-bit-in-the-segment", &[at(FLIP, 5, 300, 8, 0)]),
        ("no-segment-file", &[at(REMOVE, 5, 0, 0, 0)]),
        ("no-segment-conf", &[at(REMOVE, 4, 0, 0, 0)]),
        ("the-segment-cut-short", &[at(CUT, 5, 500, 0, 0)]),
        (
            "segment-and-journal",
            &[
                at(ZERO, 5, 0, 0, 255),
                at(ZERO, 0, 0, 0, 255),
                at(FLIP, 2, 500, 1, 0),
            ],
        ),
        ("the-state-in-the-segments-place", &[at(SWAP, 5, 0, 9, 0)]),
        ("a-bit-in-the-letter", &[at(FLIP, 9, 200, 1, 0)]),
        ("no-state-file", &[at(REMOVE, 9, 0, 0, 0)]),
        ("one-mark-of-two", &[at(REMOVE, 6, 0, 0, 0)]),
        (
            "no-marks",
            &[at(REMOVE, 6, 0, 0, 0), at(REMOVE, 6, 0, 0, 0)],
        ),
    ];
    cases
        .iter()
        .map(|(name, edits)| named(name, edits.concat()))
        .collect()
}

#[test]
fn i8_the_corpus_of_spools_is_recovered_without_a_wrong_word_or_a_silent_loss() {
    feed("spool", spool_seeds(), |edits| {
        let scratch = tempfile::tempdir().unwrap();
        fuzz::spool(edits, &golden(), scratch.path());
    });
}

/// Edits of the golden segment's chunk and of the dead letter, by where their pieces stand.
fn crafted_seeds() -> Vec<(String, Vec<u8>)> {
    const FILL: u8 = 1;
    let chunk = piece("segments/00000000000000000009/db", b'c');
    let letter = piece("state/db", b'l');
    // The segment's db is the file 5, the state's 9, among the sorted ones.
    let fill = |file: u8, at: usize, value: u8, bytes: u8| {
        let [low, high] = u16::try_from(at).unwrap().to_le_bytes();
        [FILL, file, low, high, value, bytes - 1]
    };
    let (body, head) = (chunk + 27, letter + 27);
    vec![
        named("whole", []),
        named(
            "chunk-whose-first-is-the-greatest",
            fill(5, body + 2, 0xFF, 8),
        ),
        named(
            "chunk-of-all-the-events-there-can-be",
            fill(5, body + 10, 0xFF, 4),
        ),
        named("chunk-of-4-gib", fill(5, body + 14, 0xFF, 4)),
        named(
            "chunk-that-is-the-greatest",
            [
                fill(5, body + 2, 0xFF, 8),
                fill(5, body + 10, 0, 4),
                fill(5, body + 10, 1, 1),
            ]
            .concat(),
        ),
        named(
            "chunk-that-ends-before-the-greatest",
            [
                fill(5, body + 2, 0xFF, 8),
                fill(5, body + 10, 0, 4),
                fill(5, body + 10, 1, 1),
                fill(5, body + 2, 0xFE, 1),
            ]
            .concat(),
        ),
        named("piece-of-4-gib", fill(5, chunk + 15, 0xFF, 4)),
        named(
            "piece-that-is-the-last-of-65536",
            fill(5, chunk + 13, 0xFF, 2),
        ),
        named("letter-whose-head-has-4-gib", fill(9, head + 1, 0xFF, 4)),
        named("letter-whose-id-is-long", fill(9, head + 9, 0xFF, 8)),
        named("letter-of-another-number", fill(9, letter + 5, 0xFF, 8)),
        named("journal-whose-numbers-are-great", fill(1, 32, 0xFF, 8)),
        named("journal-whose-run-is-long", fill(0, 200, 0x7F, 200)),
    ]
}

/// Where the first piece of a space stands in a file of the golden spool.
fn piece(file: &str, space: u8) -> usize {
    let db = fs::read(golden().join(file)).unwrap();
    position(&db, &[0xf5, b'e', b'p', 1, space]).unwrap()
}

#[test]
fn crafted_spools_are_read_to_an_end_or_refused() {
    feed("crafted", crafted_seeds(), |edits| {
        let scratch = tempfile::tempdir().unwrap();
        fuzz::crafted(edits, &golden(), scratch.path());
    });
}

fn letter_seeds() -> Vec<(String, Vec<u8>)> {
    let db = fs::read(golden().join("state/db")).unwrap();
    let at = piece("state/db", b'l');
    let len = u32::from_le_bytes(db[at + 15..at + 19].try_into().unwrap()) as usize;
    // Behind the piece's head and the version.
    let whole = &db[at + 28..at + 27 + len];
    let with = |at: usize, bytes: &[u8]| {
        let mut altered = whole.to_vec();
        altered[at..at + bytes.len()].copy_from_slice(bytes);
        altered
    };
    let head = u32::from_le_bytes(whole[..4].try_into().unwrap()) as usize;
    vec![
        named("empty", []),
        named("whole", whole),
        named("cut", &whole[..whole.len() / 2]),
        named("without-an-event", &whole[..4 + head]),
        named("head-of-4-gib", with(0, &[0xFF; 4])),
        named("long-id", with(8, &[0xFF; 8])),
        named("cause-that-is-none", with(40, &[9])),
    ]
}

#[test]
fn the_corpus_of_letters_is_read_without_a_wrong_word() {
    feed("letter", letter_seeds(), fuzz::letter);
}

fn event_seeds() -> Vec<(String, Vec<u8>)> {
    let id = "0199f3c2-7d5b-7000-8000-0000000000aa";
    let entry =
        format!("{{\"seq\":7,\"id\":\"{id}\",\"time_ms\":1,\"event\": {{\"a\" :\r\n1.00}} }}");
    vec![
        named("empty", []),
        named("object", r#" {"a" : 1.00, "a":2} "#),
        named("line-breaks", "[1,\r\n2,\n3]\n"),
        named("number-beyond-every-number", "1e999999"),
        named("escapes", r#""\u0000\ud800\n\/""#),
        named("other-signs", "\"\u{feff}\u{2028}\u{1f600}\""),
        named("byte-order-mark", "\u{feff}{}"),
        named("not-utf-8", b"\"\xff\"".as_slice()),
        named("surrogate-in-utf-8", b"\"\xed\xa0\x80\"".as_slice()),
        named("control-sign", "\"\u{1}\""),
        named("two-values", "{} {}"),
        named("cut", "{\"a\":[1,2"),
        named("deep", "[".repeat(200) + &"]".repeat(200)),
        named("entry", entry),
        named("entry-without-id", r#"{"event":{"text":"hi"}}"#),
        named(
            "entry-at-the-end-of-time",
            r#"{"event":null,"time_ms":18446744073709551615}"#,
        ),
        named("entry-twice", r#"{"event":1,"event":2}"#),
        named("entry-of-nothing", r#"{"event":}"#),
        named("entry-in-a-list", r#"[null,1,{"a":2}]"#),
    ]
}

#[test]
fn the_corpus_of_events_is_taken_to_the_byte_or_refused_without_being_repeated() {
    feed("event_json", event_seeds(), fuzz::event_json);
}
