//! What the ledger remembers of the persistent stream of a log, and its bytes: which stream it is, and what each request
//! that is not settled holds. So a request can be made again exactly as it was.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bytes::{Reader, put};
use super::{Bent, Quarantined, Settled};
use crate::types::{Epoch, Lsn, StreamOffset};

/// How many requests a record names at most; no more are in flight. It keeps a record below what sled puts into a file of
/// its own.
pub const REQUESTS_MAX: usize = 2_000;

/// A longer name of a stream is none that we were given.
const ID_BYTES_MAX: usize = 1024;
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// What is remembered of persistent streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Rows that were sent a second time because nobody could say what had become of them, since the log began: at most
    /// so many are in the table twice.
    pub doubtful_rows: u64,
    /// The stream in use.
    pub current: Option<RecordedStream>,
    /// Counts the requests that were added, in the memory of one owner: whoever waits for a record to be durable waits
    /// for a number.
    pub sequence: u64,
}

/// A persistent stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedStream {
    /// The name that the service has for it.
    pub id: String,
    /// The message that its records are, as the service was told.
    pub descriptor: Arc<[u8]>,
    /// The first stream offset that is not settled. All before it were acknowledged.
    pub next: StreamOffset,
    /// So many stream offsets from `next` on stand for requests that were dropped as a whole, and that may have been sent.
    pub dropped: u64,
    /// The first of `requests` has lost its beginning, which was dropped.
    pub is_cut: bool,
    /// What is not settled, in the order of the log, from where the log is settled.
    pub requests: VecDeque<RecordedRequest>,
    /// So many stream offsets behind those of `requests` may have been sent and stand for nothing any more: what they
    /// held is to be cut in another way.
    pub void: u64,
}

/// A request: where it ends, and what is settled with it. One without rows is a stretch that is passed without sending
/// anything, and has no stream offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordedRequest {
    /// Everything up to here is settled once the request is acknowledged; it begins where the one before it ends.
    pub end: Settled,
    /// Frames that end in it and are delivered, as a whole or in part.
    pub frames: u64,
    /// Rows that are sent.
    pub rows: u64,
    /// Frames in it that damage has taken.
    pub damaged_frames: u64,
    /// What is not sent as it was in the frames.
    pub bent: Bent,
    /// What of it is not sent because it is in quarantine.
    pub quarantined: Quarantined,
    /// A checksum of the numbers of the rows that are not sent; zero if all are.
    pub holes: u32,
}

/// What a service says of a stream, and what was recorded of it, do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The lowest offset up to which the service can have committed.
    pub lowest: StreamOffset,
    /// The highest.
    pub highest: StreamOffset,
}

impl Streams {
    /// Whether there is something to keep.
    pub fn is_empty(&self) -> bool {
        self.doubtful_rows == 0 && self.current.is_none()
    }

    /// From here on a new stream is used; nothing is sent on it yet.
    pub fn begin(&mut self, id: String, descriptor: Arc<[u8]>) {
        self.sequence += 1;
        self.current = Some(RecordedStream {
            id,
            descriptor,
            next: StreamOffset::new(0),
            dropped: 0,
            is_cut: false,
            requests: VecDeque::new(),
            void: 0,
        });
    }

    /// Adds what is to be sent next, and returns the number to wait for.
    pub fn push(&mut self, request: RecordedRequest) -> u64 {
        self.sequence += 1;
        if let Some(current) = &mut self.current {
            current.requests.push_back(request);
        }
        self.sequence
    }

    /// The log is settled up to there: what ends before is forgotten.
    pub fn settle(&mut self, settled: Settled) {
        let Some(current) = &mut self.current else { return };
        while current.requests.front().is_some_and(|request| request.end <= settled) {
            if current.requests.pop_front().is_some_and(|request| request.rows > 0) {
                // With it everything before it is acknowledged.
                current.next = current.next.plus(current.dropped as i64 + 1);
                (current.dropped, current.is_cut) = (0, false);
            }
        }
    }

    /// The log is settled up to the end of a whole frame because it was dropped up to there. `dropped` says what that was;
    /// whether it was committed before, nobody knows.
    pub fn drop_through(&mut self, dropped: &RecordedRequest) {
        let Some(current) = &mut self.current else { return };
        let mut sum = RecordedRequest::default();
        while let Some(request) = current.requests.pop_front() {
            sum.add(&request);
            let left = sum.without(dropped);
            if request.end > dropped.end && left.rows > 0 {
                current.requests.push_front(left);
                current.is_cut = true;
                return;
            }
            current.dropped += u64::from(request.rows > 0);
            if request.end >= dropped.end {
                return;
            }
        }
    }

    /// What is recorded and not settled will not be made again as it was, although it may have been sent.
    pub fn void(&mut self) {
        let Some(current) = &mut self.current else { return };
        current.void += current.dropped + current.offsets();
        (current.dropped, current.is_cut) = (0, false);
        current.requests.clear();
    }

    /// Takes out what was added last and never sent, as if it had not been added.
    pub fn take_back(&mut self, count: usize) {
        let Some(current) = &mut self.current else { return };
        current.requests.truncate(current.requests.len().saturating_sub(count));
    }
}

impl RecordedStream {
    /// How many stream offsets the requests have.
    fn offsets(&self) -> u64 {
        self.requests.iter().filter(|request| request.rows > 0).count() as u64
    }

    /// Whether something may have been sent of which nobody knows whether it is committed.
    pub fn has_tail(&self) -> bool {
        self.is_used_up() || !self.requests.is_empty()
    }

    /// Whether stream offsets may have been used for something that is not sent any more: then the stream cannot go on.
    pub fn is_used_up(&self) -> bool {
        self.void > 0 || self.dropped > 0 || self.is_cut
    }

    /// Rows of which nobody knows whether they are committed, as far as they are still to be delivered.
    pub fn tail_rows(&self) -> u64 {
        self.requests.iter().map(|request| request.rows).sum()
    }

    /// The highest frame that something is said about. The next one of the log must be above it \[I12\].
    pub fn highest(&self) -> Lsn {
        self.requests.back().map_or(Lsn::ZERO, |last| last.end.highest())
    }

    /// Whether something that ends there is recorded.
    pub fn has(&self, end: Settled) -> bool {
        self.requests.binary_search_by_key(&end, |request| request.end).is_ok()
    }

    /// The requests up to this stream offset, which the service has committed; none if that cannot be.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`]: it is more than was recorded before it was sent, or less than was acknowledged.
    pub fn committed(&self, through: Option<StreamOffset>) -> Result<Vec<RecordedRequest>, OutOfRange> {
        let lowest = self.next.plus(-1);
        let highest = lowest.plus((self.dropped + self.offsets() + self.void) as i64);
        let through = through.unwrap_or(StreamOffset::new(-1));
        if through < lowest || through > highest {
            return Err(OutOfRange { lowest, highest });
        }
        let mut left = through.get() - lowest.get() - self.dropped as i64;
        let is_committed = |request: &&RecordedRequest| {
            left -= i64::from(request.rows > 0);
            left >= 0
        };
        Ok(self.requests.iter().take_while(is_committed).copied().collect())
    }
}

impl RecordedRequest {
    fn add(&mut self, next: &RecordedRequest) {
        self.end = next.end;
        self.frames += next.frames;
        self.rows += next.rows;
        self.damaged_frames += next.damaged_frames;
        self.bent += next.bent;
        self.quarantined += next.quarantined;
    }

    /// What is left of it without its beginning. What is bent in that is not known, and stays.
    fn without(&self, beginning: &RecordedRequest) -> RecordedRequest {
        RecordedRequest {
            frames: self.frames.saturating_sub(beginning.frames),
            rows: self.rows.saturating_sub(beginning.rows),
            damaged_frames: self.damaged_frames.saturating_sub(beginning.damaged_frames),
            quarantined: Quarantined {
                rows: self.quarantined.rows.saturating_sub(beginning.quarantined.rows),
                frames: self.quarantined.frames.saturating_sub(beginning.quarantined.frames),
            },
            ..*self
        }
    }
}

/// Which descriptor belongs to a record: the place where it lies, and its checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DescriptorMark {
    pub(super) place: u8,
    pub(super) bytes: u32,
    pub(super) checksum: u32,
}

impl DescriptorMark {
    pub(super) fn of(place: u8, descriptor: &[u8]) -> DescriptorMark {
        DescriptorMark { place, bytes: descriptor.len() as u32, checksum: crc32fast::hash(descriptor) }
    }
}

/// The key holds the epoch, as the one of the record of what is settled does.
pub(super) fn key(epoch: Epoch) -> [u8; 15] {
    let mut key = *b"stream\0........";
    key[7..].copy_from_slice(&epoch.get().to_be_bytes());
    key
}

/// The bytes, for a descriptor that lies at this place.
pub(super) fn encode(streams: &Streams, place: u8) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    put(&mut bytes, streams.doubtful_rows);
    bytes.push(streams.current.is_some().into());
    if let Some(current) = &streams.current {
        let mark = DescriptorMark::of(place, &current.descriptor);
        put(&mut bytes, current.id.len() as u64);
        bytes.extend_from_slice(current.id.as_bytes());
        bytes.push(mark.place);
        bytes.extend_from_slice(&mark.bytes.to_le_bytes());
        bytes.extend_from_slice(&mark.checksum.to_le_bytes());
        put(&mut bytes, current.next.get() as u64);
        put(&mut bytes, current.dropped);
        bytes.push(current.is_cut.into());
        put(&mut bytes, current.void);
        put(&mut bytes, current.requests.len() as u64);
        let mut before = 0;
        for request in &current.requests {
            put_request(&mut bytes, request, before);
            before = request.end.through.get();
        }
    }
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn put_request(bytes: &mut Vec<u8>, request: &RecordedRequest, before: u64) {
    let RecordedRequest { end, frames, rows, damaged_frames, bent, quarantined, holes } = request;
    put(bytes, end.through.get() - before);
    put(bytes, end.rows_of_next.into());
    for number in [*rows, *frames, *damaged_frames, bent.floored_timestamps, bent.emptied_lists] {
        put(bytes, number);
    }
    put(bytes, quarantined.rows);
    // Most requests have no holes.
    if quarantined.rows > 0 {
        put(bytes, quarantined.frames);
        bytes.extend_from_slice(&holes.to_le_bytes());
    }
}

/// What the bytes say. The descriptor is read by its mark, which says nothing if there is no stream.
pub(super) fn decode(
    bytes: &[u8],
    descriptor: impl FnOnce(DescriptorMark) -> Result<Arc<[u8]>, String>,
) -> Result<Streams, String> {
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or("a record that is too short")?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err("a record with a wrong checksum".to_owned());
    }
    let mut reader = Reader::new(body);
    match reader.byte()? {
        VERSION => {}
        other => return Err(format!("a record of version {other}, this program reads up to {VERSION}")),
    }
    let doubtful_rows = reader.count()?;
    let current = match reader.byte()? {
        0 => None,
        1 => Some(decode_stream(&mut reader, descriptor)?),
        other => return Err(format!("{other} streams")),
    };
    reader.finish()?;
    Ok(Streams { doubtful_rows, current, sequence: 0 })
}

fn decode_stream(
    reader: &mut Reader<'_>,
    descriptor: impl FnOnce(DescriptorMark) -> Result<Arc<[u8]>, String>,
) -> Result<RecordedStream, String> {
    let length = reader.varint()?;
    let length = usize::try_from(length).ok().filter(|length| *length <= ID_BYTES_MAX);
    let id = reader.take(length.ok_or("a stream with a name without end")?)?;
    let id = std::str::from_utf8(id).map_err(|_| "a stream whose name is no text")?.to_owned();
    let mark = DescriptorMark { place: reader.byte()?, bytes: reader.u32_le()?, checksum: reader.u32_le()? };
    let next = i64::try_from(reader.varint()?).map_err(|_| "an offset that is none")?;
    let dropped = reader.varint()?;
    let is_cut = match reader.byte()? {
        flag @ 0..=1 => flag == 1,
        _ => return Err("a flag that is none".to_owned()),
    };
    let void = reader.varint()?;
    let count = reader.varint()?;
    let count = usize::try_from(count).ok().filter(|count| *count <= REQUESTS_MAX);
    let count = count.ok_or("more requests than there can be")?;
    // Offsets are summed up later.
    let is_countable = dropped.max(void) <= u32::MAX.into() && next <= i64::MAX / 2;
    if !is_countable {
        return Err("offsets without end".to_owned());
    }
    let mut requests = VecDeque::with_capacity(count);
    let mut before = Settled::default();
    for _ in 0..count {
        let request = decode_request(reader, before.through.get())?;
        if request.end <= before {
            return Err("requests that are not in the order of the log".to_owned());
        }
        before = request.end;
        requests.push_back(request);
    }
    let (descriptor, next) = (descriptor(mark)?, StreamOffset::new(next));
    Ok(RecordedStream { id, descriptor, next, dropped, is_cut, requests, void })
}

fn decode_request(reader: &mut Reader<'_>, before: u64) -> Result<RecordedRequest, String> {
    let through = before.checked_add(reader.varint()?).filter(|through| *through <= i64::MAX as u64);
    let through = through.ok_or("a frame with a number that is too large")?;
    let rows_of_next = u32::try_from(reader.varint()?).map_err(|_| "a frame with too many rows")?;
    let mut request = RecordedRequest {
        end: Settled { through: Lsn::new(through), rows_of_next },
        rows: reader.count()?,
        frames: reader.count()?,
        damaged_frames: reader.count()?,
        bent: Bent { floored_timestamps: reader.count()?, emptied_lists: reader.count()? },
        ..RecordedRequest::default()
    };
    request.quarantined.rows = reader.count()?;
    if request.quarantined.rows > 0 {
        request.quarantined.frames = reader.count()?;
        request.holes = reader.u32_le()?;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(through: u64, rows_of_next: u32, rows: u64) -> RecordedRequest {
        let end = Settled { through: Lsn::new(through), rows_of_next };
        RecordedRequest { end, frames: 1, rows, ..RecordedRequest::default() }
    }

    fn descriptor() -> Arc<[u8]> {
        Arc::from(*b"the message")
    }

    fn streams(requests: impl IntoIterator<Item = RecordedRequest>) -> Streams {
        let mut streams = Streams { doubtful_rows: 7, ..Streams::default() };
        streams.begin("stream-1".to_owned(), descriptor());
        for request in requests {
            streams.push(request);
        }
        streams
    }

    fn read(bytes: &[u8]) -> Result<Streams, String> {
        decode(bytes, |mark| {
            assert_eq!(mark, DescriptorMark::of(mark.place, &descriptor()));
            Ok(descriptor())
        })
    }

    fn committed(streams: &Streams, through: i64) -> Result<usize, OutOfRange> {
        let through = (through >= 0).then_some(StreamOffset::new(through));
        streams.current.as_ref().unwrap().committed(through).map(|requests| requests.len())
    }

    prop_compose! {
        fn any_request()(
            steps in (0u64..1_000, 1u32..1_000_000),
            numbers in prop::array::uniform7(prop_oneof![0u64..200, 0u64..1 << 48]),
            holes in any::<u32>(),
        ) -> (u64, RecordedRequest) {
            let [rows, frames, damaged_frames, floored_timestamps, emptied_lists, hole_rows, hole_frames] = numbers;
            let bent = Bent { floored_timestamps, emptied_lists };
            let quarantined = match hole_rows {
                0 => Quarantined::default(),
                rows => Quarantined { rows, frames: hole_frames },
            };
            let holes = if hole_rows == 0 { 0 } else { holes };
            let end = Settled { through: Lsn::ZERO, rows_of_next: steps.1 };
            (steps.0, RecordedRequest { end, frames, rows, damaged_frames, bent, quarantined, holes })
        }
    }

    proptest! {
        #[test]
        fn a_record_survives_its_bytes(
            stream in prop::option::of((".{0,40}", 0i64..1 << 40, 0u64..1 << 20, any::<bool>(), 0u64..1 << 20)),
            requests in prop::collection::vec(any_request(), 0..100),
            doubtful_rows in 0u64..1 << 48,
        ) {
            let mut through = 0;
            let requests: VecDeque<RecordedRequest> = requests
                .into_iter()
                .map(|(step, request)| {
                    through += step + 1;
                    RecordedRequest { end: Settled { through: Lsn::new(through), ..request.end }, ..request }
                })
                .collect();
            let current = stream.map(|(id, next, dropped, is_cut, void)| RecordedStream {
                id, descriptor: descriptor(), next: StreamOffset::new(next), dropped, is_cut, requests, void,
            });
            let streams = Streams { doubtful_rows, current, sequence: 0 };
            prop_assert_eq!(read(&encode(&streams, 1)), Ok(streams));
        }

        #[test]
        fn bytes_of_others_are_an_error_and_nothing_worse(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            tail in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let good = encode(&streams([request(3, 0, 10), request(9, 4, 5)]), 0);
            let mut bytes = good.clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            prop_assert!(bytes == good || read(&bytes).is_err());
            // With a checksum that fits, anything may be read, and must be a result.
            let mut forged = good[..at].to_vec();
            forged.extend(&tail);
            let checksum = crc32fast::hash(&forged);
            forged.extend(checksum.to_le_bytes());
            if let Ok(mut streams) = decode(&forged, |_| Ok(descriptor())) {
                let dropped = RecordedRequest { rows: 3, ..request(4, 0, 3) };
                streams.drop_through(&dropped);
                streams.settle(dropped.end);
                streams.void();
            }
            prop_assert!(read(&good[..at]).is_err());
            let _ = decode(&tail, |_| Ok(descriptor()));
        }
    }

    #[test]
    fn a_record_of_as_many_requests_as_there_can_be_is_no_large_one() {
        let usual = (1..=REQUESTS_MAX as u64).map(|number| request(number * 20, 0, 20_000));
        assert!(encode(&streams(usual), 0).len() < 40_000);
        let quarantined = Quarantined { rows: 1 << 20, frames: 1 << 10 };
        let worst = (1..=REQUESTS_MAX as u64).map(|number| RecordedRequest {
            quarantined,
            bent: Bent { floored_timestamps: 1 << 20, emptied_lists: 1 << 20 },
            ..request(number << 40, u32::MAX, 20_000)
        });
        let bytes = encode(&streams(worst), 0);
        assert!(bytes.len() < 100 * 1024, "{} bytes", bytes.len());
        assert!(read(&bytes).is_ok());
    }

    #[test]
    fn what_the_service_has_committed_is_told_from_what_it_cannot_have() {
        // Offsets 0, 1 and 2; what is passed without sending anything has none.
        let skipped = |through| RecordedRequest { rows: 0, ..request(through, 0, 0) };
        let mut streams = streams([request(1, 0, 5), skipped(2), request(3, 0, 5), request(3, 4, 4)]);
        for (through, requests) in [(-1, 0), (0, 2), (1, 3), (2, 4)] {
            assert_eq!(committed(&streams, through), Ok(requests), "up to {through}");
        }
        let range = |lowest, highest| OutOfRange {
            lowest: StreamOffset::new(lowest),
            highest: StreamOffset::new(highest),
        };
        assert_eq!(committed(&streams, 3), Err(range(-1, 2)), "more than was recorded");
        streams.settle(Settled { through: Lsn::new(2), rows_of_next: 0 });
        assert_eq!(committed(&streams, -1), Err(range(0, 2)), "less than was acknowledged");
        assert_eq!(committed(&streams, 0), Ok(0));
        streams.settle(Settled { through: Lsn::new(3), rows_of_next: 4 });
        assert_eq!(committed(&streams, 2), Ok(0));
        assert!(!streams.current.unwrap().has_tail());
    }

    #[test]
    fn what_was_given_up_can_be_committed_and_is_never_made_again() {
        let mut streams = streams([request(1, 0, 5), request(2, 0, 5), request(3, 0, 5)]);
        streams.settle(Settled { through: Lsn::new(1), rows_of_next: 0 });
        streams.void();
        let current = streams.current.as_ref().unwrap();
        assert!(current.has_tail() && current.requests.is_empty());
        assert_eq!((0..=2).map(|through| committed(&streams, through)).collect::<Vec<_>>(), [Ok(0); 3]);
        assert!(committed(&streams, 3).is_err());
        assert_eq!(read(&encode(&streams, 0)).unwrap().current, streams.current);
    }

    #[test]
    fn of_requests_that_were_dropped_what_is_left_is_settled_if_it_was_committed() {
        // Five rows of each of four frames: the second request holds the end of frame 2 and the beginning of frame 3.
        let all = [request(1, 3, 8), request(2, 4, 6), request(4, 0, 6)];
        for (dropped_frames, through, rows) in [
            (1, -1, vec![]),
            (1, 0, vec![3]),
            (1, 1, vec![3, 6]),
            (2, 0, vec![]),
            (2, 1, vec![4]),
            (2, 2, vec![4, 6]),
            (4, -1, vec![]),
            (4, 2, vec![]),
        ] {
            let mut streams = streams(all);
            let end = Settled { through: Lsn::new(dropped_frames), rows_of_next: 0 };
            let (frames, rows_dropped) = (dropped_frames, 5 * dropped_frames);
            streams.drop_through(&RecordedRequest { end, frames, rows: rows_dropped, ..Default::default() });
            streams = read(&encode(&streams, 0)).unwrap();
            let current = streams.current.clone().unwrap();
            assert!(current.has_tail() && current.is_used_up(), "the stream cannot go on as it is");
            assert!(current.committed(Some(StreamOffset::new(3))).is_err());
            let committed = current.committed((through >= 0).then_some(StreamOffset::new(through))).unwrap();
            assert_eq!(
                committed.iter().map(|it| it.rows).collect::<Vec<_>>(),
                rows,
                "{dropped_frames} {through}"
            );
            committed.iter().for_each(|request| streams.settle(request.end));
            let current = streams.current.as_ref().unwrap();
            if let Some(last) = committed.last() {
                assert_eq!((current.next.get(), current.is_used_up()), (through + 1, false));
                assert_eq!(current.has_tail(), last.end != all[2].end);
            }
            streams.void();
            let current = streams.current.as_ref().unwrap();
            assert_eq!(current.next.get() + current.void as i64, 3, "no offset is forgotten");
        }
    }

    #[test]
    fn what_was_never_sent_can_be_taken_back() {
        let mut streams = streams([request(1, 0, 5), request(2, 0, 5), request(3, 0, 5)]);
        streams.take_back(2);
        assert_eq!(streams.current.as_ref().unwrap().tail_rows(), 5);
        assert!(streams.current.as_ref().unwrap().has(request(1, 0, 5).end));
        assert_eq!(committed(&streams, 1).unwrap_err().highest, StreamOffset::new(0));
    }
}
