//! Frames to the byte, and what is believed of damaged ones.

use super::*;

const QUEUE: Uuid = Uuid::from_u128(7);

fn event(n: u64) -> Event {
    Event::json(n.to_string()).unwrap()
}

/// A file of one generation with frames of one event each; each frame says that everything
/// before `synced(n)` had been synced.
fn file(frames: u64, generation: u64, synced: impl Fn(u32) -> u32) -> (Vec<u8>, Vec<u32>) {
    let mut writer = FrameWriter::new(QUEUE);
    let mut starts = Vec::new();
    for n in 1..=frames {
        let at = u32::try_from(writer.bytes().len()).unwrap();
        starts.push(at);
        let place = Place {
            generation,
            buffer_offset: 0,
            synced: synced(at),
        };
        writer.events(place, n, &[event(n)]);
    }
    let mut bytes = writer.bytes().to_vec();
    bytes.resize(4096, 0);
    (bytes, starts)
}

fn seqs(bytes: Vec<u8>) -> (Vec<Seq>, usize) {
    let scan = scan(&Bytes::from(bytes), QUEUE);
    let seqs = scan
        .frames
        .iter()
        .flat_map(|frame| match frame.entry().unwrap() {
            Entry::Events(events) => events.iter().map(|e| e.seq).collect::<Vec<_>>(),
            _ => vec![],
        })
        .collect();
    (seqs, scan.damaged.len())
}

#[test]
fn frames_come_back_in_order() {
    assert_eq!(seqs(file(5, 1, |at| at).0), (vec![1, 2, 3, 4, 5], 0));
}

#[test]
fn a_frame_is_found_however_many_zeroes_stand_before_it() {
    for at in (0..3 * 4096_u32).step_by(8) {
        let mut writer = FrameWriter::new(QUEUE);
        let place = Place {
            generation: 1,
            buffer_offset: at,
            synced: 0,
        };
        writer.retried(place, 5);
        let mut bytes = vec![0; at as usize];
        bytes.extend_from_slice(writer.bytes());
        let (found, used) = valid_frames(&mut Bytes::from(bytes), QUEUE).unwrap();
        assert_eq!((found.len(), used), (1, true), "at {at}");
    }
}

#[test]
fn i8_damage_to_a_synced_frame_is_reported_and_later_frames_are_kept() {
    let (mut bytes, starts) = file(5, 1, |at| at);
    bytes[starts[2] as usize + 40] ^= 1;
    assert_eq!(seqs(bytes), (vec![1, 2, 4, 5], 1));
}

#[test]
fn a_torn_end_is_dropped_even_if_a_later_part_of_it_survived() {
    let (mut bytes, starts) = file(5, 1, |_| 0);
    bytes[starts[2] as usize + 40] ^= 1;
    assert_eq!(seqs(bytes), (vec![1, 2], 0));
}

#[test]
fn frames_of_an_earlier_generation_are_stale() {
    let (mut bytes, starts) = file(5, 1, |at| at);
    let mut writer = FrameWriter::new(QUEUE);
    let place = Place {
        generation: 2,
        buffer_offset: 0,
        synced: 0,
    };
    writer.events(place, 9, &[event(9)]);
    bytes[..writer.bytes().len()].copy_from_slice(writer.bytes());
    assert_eq!(
        writer.bytes().len(),
        starts[1] as usize,
        "the next stale frame fits exactly"
    );
    assert_eq!(seqs(bytes), (vec![9], 0));
}

#[test]
fn frames_of_another_queue_or_another_place_are_not_believed() {
    let (bytes, _) = file(2, 1, |at| at);
    let other = scan(&Bytes::from(bytes.clone()), Uuid::from_u128(8));
    assert!(other.frames.is_empty() && other.used);
    let mut moved = vec![0; 8];
    moved.extend_from_slice(&bytes);
    assert!(scan(&Bytes::from(moved), QUEUE).frames.is_empty());
}

#[test]
fn no_single_flipped_bit_yields_a_wrong_event() {
    let (bytes, _) = file(3, 1, |at| at);
    for bit in 0..200 * 8 {
        let mut copy = bytes.clone();
        copy[bit / 8] ^= 1 << (bit % 8);
        for frame in scan(&Bytes::from(copy), QUEUE).frames {
            let Some(Entry::Events(events)) = frame.entry() else {
                panic!("bit {bit}")
            };
            assert_eq!(
                &events[0].event.json_bytes()[..],
                events[0].seq.to_string().as_bytes()
            );
        }
    }
}

#[test]
fn a_frame_is_what_the_format_says_to_the_byte() {
    let mut writer = FrameWriter::new(QUEUE);
    let place = Place {
        generation: 0x0102,
        buffer_offset: 64,
        synced: 32,
    };
    writer.retried(place, 5);
    let golden = "64ca2f24080000000201000000000000400000002000000004010000000000000500000000000000";
    let hex: String = writer.bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, golden);
}

/// The first block of the first commit to a file is torn, a later frame of it survives. It was
/// believed, and the events before it, which no caller had been told were safe, were reported as
/// lost.
#[test]
fn a_torn_first_commit_of_a_file_is_not_damage() {
    let mut writer = FrameWriter::new(QUEUE);
    let place = Place {
        generation: 2,
        buffer_offset: 0,
        synced: 0,
    };
    writer.books(
        place,
        Kind::Checkpoint,
        Ledger {
            appended: 99,
            ..Ledger::default()
        },
    );
    for n in 100..104 {
        writer.events(
            place,
            n,
            &[Event::json(format!("\"{}\"", "x".repeat(3000))).unwrap()],
        );
    }
    let mut over_zeroes = writer.bytes().to_vec();
    over_zeroes[..4096].fill(0);
    let found = scan(&Bytes::from(over_zeroes), QUEUE);
    assert!(
        found.frames.is_empty() && found.damaged.is_empty(),
        "{found:?}"
    );

    let (mut over_earlier_use, _) = file(60, 1, |at| at);
    over_earlier_use.resize(writer.bytes().len(), 0);
    over_earlier_use[4096..].copy_from_slice(&writer.bytes()[4096..]);
    let found = scan(&Bytes::from(over_earlier_use), QUEUE);
    assert!(
        found.frames.iter().all(|frame| frame.generation == 1),
        "{found:?}"
    );
}

#[test]
fn a_frame_tells_its_numbers_without_being_taken_apart() {
    let of = |kind, body: &[u8]| {
        let frame = Frame {
            kind,
            generation: 1,
            offset: 0,
            synced: 0,
            body: Bytes::copy_from_slice(body),
            len: u32::try_from(body.len()).unwrap(),
            run_bytes_max: 0,
            file: 0,
        };
        frame.range().map(|range| (range.first, range.last))
    };
    let mut run = Vec::new();
    codec::encode_run(7, [event(1), event(2)].iter(), &mut run);
    assert_eq!(of(Kind::Events, &run), Some((7, 8)));
    assert_eq!(of(Kind::Ack, &run), None);
    assert_eq!(of(Kind::Events, &run[..11]), None);
    let numbers =
        |first: u64, count: u32| [&first.to_le_bytes()[..], &count.to_le_bytes()].concat();
    for (first, count) in [(0, 1), (1, 0), (u64::MAX, 2)] {
        assert_eq!(of(Kind::Events, &numbers(first, count)), None);
    }
}

/// A file read piece by piece gives the frames that it gives in memory, also where one does not
/// check, lies about its length, or begins in front of the end of a piece.
#[test]
fn a_file_that_is_read_piece_by_piece_gives_the_same_frames() {
    let mut writer = FrameWriter::new(QUEUE);
    let mut starts = Vec::new();
    for n in 1..=300_u64 {
        let place = Place {
            generation: 1,
            buffer_offset: 0,
            synced: 0,
        };
        starts.push(writer.bytes().len());
        let len = usize::try_from(n * 7919 % 9000).unwrap();
        let json = format!("\"{}\"", "x".repeat(len));
        writer.events(place, n, &[Event::json(json).unwrap()]);
        writer.books(place, Kind::Ack, Ledger::default());
        if n == 150 {
            // Longer than what is read at once.
            let json = format!("\"{}\"", "y".repeat(700_000));
            writer.events(place, n, &[Event::json(json).unwrap()]);
        }
    }
    let whole = [writer.bytes(), &[0; 20_000]].concat();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let lies = |len: u32| {
        let mut bytes = whole.clone();
        bytes[starts[40] + 4..][..4].copy_from_slice(&len.to_le_bytes());
        bytes
    };
    let files = [
        whole.clone(),
        flipped(starts[40] + 100),
        flipped(starts[299] + 3),
        lies(1_000_000),
        lies(u32::MAX),
        whole[..starts[200] + 50].to_vec(),
        vec![0; 600_000],
        [vec![0; 600_001], vec![1]].concat(),
        vec![],
    ];
    let mut file = tempfile::tempfile().unwrap();
    for bytes in files {
        file.set_len(0).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let len = bytes.len() as u64;
        let all = Bytes::from(bytes);
        let (expected, used) = valid_frames(&mut all.clone(), QUEUE).unwrap();
        assert_eq!(used, all.iter().any(|byte| *byte != 0));
        let (mut found, also_used) = valid_frames(&mut Window::new(&file, len), QUEUE).unwrap();
        assert_eq!((found.len(), also_used), (expected.len(), used));
        let mut window = Window::new(&file, len).whole();
        for (found, expected) in found.iter_mut().zip(expected).rev() {
            assert_eq!(found.is_cut(), found.kind == Kind::Events);
            assert_eq!(found.range(), expected.range());
            if found.is_cut() {
                found.read_whole(&mut window, QUEUE).unwrap().unwrap();
            }
            assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        }
    }
    // What is not there any more is not believed.
    let (found, _) = valid_frames(&mut Bytes::from(whole), QUEUE).unwrap();
    let mut cut = Frame {
        body: Bytes::new(),
        ..found.last().unwrap().clone()
    };
    let read = cut.read_whole(&mut Window::new(&file, 0).whole(), QUEUE);
    assert!(read.unwrap().is_none());
}

/// A file that was altered cannot say how long a run may have been: where it stands does.
#[test]
fn a_packed_run_is_no_longer_than_its_file_has_room_for() {
    let (usual, large) = (4 << 20, 64 << 20);
    assert_eq!(run_bytes_max(large, 0), 64 << 20);
    assert_eq!(run_bytes_max(large, 60 << 20), 4 << 20);
    // One that was cut short, or is small.
    assert_eq!(run_bytes_max(16 << 10, 0), usual);
    assert_eq!(run_bytes_max(large, large), usual);
    let mut writer = FrameWriter::new(QUEUE);
    let place = Place {
        generation: 1,
        buffer_offset: 0,
        synced: 0,
    };
    writer.retried(place, 5);
    let frames = scan(&Bytes::copy_from_slice(writer.bytes()), QUEUE).frames;
    assert_eq!(frames[0].run_bytes_max, usual);
}
