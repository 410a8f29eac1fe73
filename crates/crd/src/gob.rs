//! Plugin state as Go's gob encoding (spec 04 §12.5).
//!
//! Go propeller keeps the state of a Kubernetes task as one gob stream in `pState`. Ours writes the same
//! stream, so that either engine can carry on with the other's task, and reads streams of any process: type ids
//! differ from process to process, so definitions are decoded and fields are matched by name.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use crate::status::TaskPhase;

/// How far the plugin manager got with the object of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Nothing was created.
    #[default]
    NotStarted,
    /// The object was created.
    Started,
}

/// State of a Kubernetes task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginState {
    /// Whether the object was created.
    pub progress: Progress,
    /// The phase last reported.
    pub phase: TaskPhase,
    /// Which of several events of one phase was sent last.
    pub phase_version: u32,
    /// The reason last reported; a new one makes a new version.
    pub reason: String,
    /// Creation of the last event of the object that was told; none while `send-object-events` is off.
    pub last_event_update: Option<Timestamp>,
}

/// The state cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin state is not a gob stream of this kind: {0}")]
pub struct GobError(&'static str);

/// The three type definitions that precede the value.
const DEFINITIONS: &str = "TP+BAwEBC1BsdWdpblN0YXRlAf+CAAEDAQVQaGFzZQEGAAEOSzhzUGx1Z2luU3RhdGUB/4QAAQ9MYXN0RXZlbnRVcGRhdGUB/4YAAAA//4MDAQELUGx1Z2luU3RhdGUB/4QAAQMBBVBoYXNlAQQAAQxQaGFzZVZlcnNpb24BBgABBlJlYXNvbgEMAAAAEP+FBQEBBFRpbWUB/4YAAAA=";

/// Seconds from the beginning of the year 1 to that of 1970.
const YEAR_ONE: i64 = 62_135_596_800;
/// How many bytes a time is encoded in.
const TIME_BYTES: usize = 15;

impl PluginState {
    /// The base64 text of `pState`.
    pub fn encode(&self) -> String {
        let mut value = Vec::new();
        let progress = match self.progress {
            Progress::NotStarted => 0,
            Progress::Started => 2,
        };
        // Outer struct: field 1 Phase, field 2 K8sPluginState (always emitted), field 3 LastEventUpdate (unless zero).
        let mut last = 0_u64;
        put_field(&mut value, &mut last, 1, progress, |out| {
            put_unsigned(out, progress);
        });
        put_unsigned(&mut value, 2 - last);
        let mut inner = 0_u64;
        let phase = zigzag(self.phase.number());
        put_field(&mut value, &mut inner, 1, phase, |out| {
            put_unsigned(out, phase);
        });
        let version = u64::from(self.phase_version);
        put_field(&mut value, &mut inner, 2, version, |out| {
            put_unsigned(out, version);
        });
        put_field(&mut value, &mut inner, 3, self.reason.len() as u64, |out| {
            put_unsigned(out, self.reason.len() as u64);
            out.extend_from_slice(self.reason.as_bytes());
        });
        value.push(0);
        if let Some(time) = self.last_event_update {
            put_unsigned(&mut value, 1);
            put_unsigned(&mut value, TIME_BYTES as u64);
            value.extend(time_bytes(time));
        }
        value.push(0);

        let mut message = Vec::new();
        put_unsigned(&mut message, zigzag(65));
        message.extend(value);
        let mut stream = STANDARD.decode(DEFINITIONS).unwrap_or_default();
        put_unsigned(&mut stream, message.len() as u64);
        stream.extend(message);
        STANDARD.encode(stream)
    }

    /// Reads `pState`; empty text is the state before anything happened.
    ///
    /// # Errors
    /// When the stream is cut short or is not the state of a Kubernetes task.
    pub fn decode(text: &str) -> Result<Self, GobError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bytes = STANDARD.decode(text).map_err(|_| GobError("not base64"))?;
        let mut stream = Reader(&bytes);
        let mut definitions = Definitions::default();
        while !stream.0.is_empty() {
            let length = stream.length()?;
            let mut message = Reader(stream.take(length)?);
            let id = message.signed()?;
            if id < 0 {
                definitions.read(-id, &mut message)?;
            } else {
                return definitions.value(id, &mut message);
            }
        }
        Err(GobError("there is no value"))
    }
}

/// How a time encodes itself: seconds since the year 1, nanoseconds, and UTC as its zone.
fn time_bytes(time: Timestamp) -> [u8; TIME_BYTES] {
    let mut bytes = [0; TIME_BYTES];
    let parts = [1]
        .into_iter()
        .chain((time.as_second() + YEAR_ONE).to_be_bytes())
        .chain(time.subsec_nanosecond().to_be_bytes())
        .chain((-1_i16).to_be_bytes());
    for (byte, part) in bytes.iter_mut().zip(parts) {
        *byte = part;
    }
    bytes
}

/// A time as it encodes itself; none for the zero time. The zone only says how it is shown.
fn time_of(bytes: &[u8]) -> Result<Option<Timestamp>, GobError> {
    const BAD: GobError = GobError("a time is not one");
    let number = |range: std::ops::Range<usize>| {
        let bytes = bytes.get(range).ok_or(BAD)?;
        Ok(bytes
            .iter()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let seconds = number(1..9)?.cast_signed();
    let nanos = i32::try_from(number(9..13)?).map_err(|_| BAD)?;
    if seconds == 0 && nanos == 0 {
        return Ok(None);
    }
    let seconds = seconds.checked_sub(YEAR_ONE).ok_or(BAD)?;
    Timestamp::new(seconds, nanos).map(Some).map_err(|_| BAD)
}

fn put_field(
    out: &mut Vec<u8>,
    last: &mut u64,
    number: u64,
    value: u64,
    put: impl FnOnce(&mut Vec<u8>),
) {
    if value != 0 {
        put_unsigned(out, number - *last);
        put(out);
        *last = number;
    }
}

fn put_unsigned(out: &mut Vec<u8>, value: u64) {
    if let Ok(byte @ 0..128) = u8::try_from(value) {
        out.push(byte);
        return;
    }
    let bytes = value.to_be_bytes();
    let significant = bytes
        .iter()
        .skip_while(|byte| **byte == 0)
        .copied()
        .collect::<Vec<_>>();
    out.push(u8::MAX - u8::try_from(significant.len()).unwrap_or(8) + 1);
    out.extend(significant);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, GobError> {
        let (first, rest) = self.0.split_first().ok_or(GobError("it ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn unsigned(&mut self) -> Result<u64, GobError> {
        let first = self.byte()?;
        if first < 128 {
            return Ok(u64::from(first));
        }
        let count = 256 - u32::from(first);
        if count > 8 {
            return Err(GobError("a number is wider than 64 bits"));
        }
        let mut value = 0;
        for _ in 0..count {
            value = value << 8 | u64::from(self.byte()?);
        }
        Ok(value)
    }

    fn signed(&mut self) -> Result<i64, GobError> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn length(&mut self) -> Result<usize, GobError> {
        usize::try_from(self.unsigned()?).map_err(|_| GobError("a length is too large"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], GobError> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or(GobError("it ends too early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn text(&mut self) -> Result<String, GobError> {
        let length = self.length()?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| GobError("a text is not UTF-8"))
    }

    /// Numbers of the fields of a struct, each followed by its value, until 0.
    fn next_field(&mut self, last: &mut u64) -> Result<Option<u64>, GobError> {
        match self.unsigned()? {
            0 => Ok(None),
            delta => {
                *last = last
                    .checked_add(delta)
                    .ok_or(GobError("a field number is too large"))?;
                Ok(Some(*last))
            }
        }
    }
}

/// Struct types of this stream: id to field names and type ids.
#[derive(Default)]
struct Definitions(Vec<(i64, Vec<(String, i64)>)>);

impl Definitions {
    /// A definition: field 3 holds a struct type, fields 5 to 7 one that encodes itself.
    fn read(&mut self, id: i64, reader: &mut Reader<'_>) -> Result<(), GobError> {
        let mut last = 0;
        let mut fields = Vec::new();
        if reader.next_field(&mut last)? == Some(3) {
            let mut member = 0;
            while let Some(number) = reader.next_field(&mut member)? {
                match number {
                    1 => Self::common(reader)?,
                    2 => {
                        for _ in 0..reader.length()? {
                            fields.push(Self::field(reader)?);
                        }
                    }
                    _ => return Err(GobError("a type definition has an unknown member")),
                }
            }
        }
        self.0.push((id, fields));
        Ok(())
    }

    fn common(reader: &mut Reader<'_>) -> Result<(), GobError> {
        let mut last = 0;
        while let Some(number) = reader.next_field(&mut last)? {
            match number {
                1 => drop(reader.text()?),
                2 => drop(reader.signed()?),
                _ => return Err(GobError("a type name has an unknown member")),
            }
        }
        Ok(())
    }

    fn field(reader: &mut Reader<'_>) -> Result<(String, i64), GobError> {
        let mut last = 0;
        let (mut name, mut id) = (String::new(), 0);
        while let Some(number) = reader.next_field(&mut last)? {
            match number {
                1 => name = reader.text()?,
                2 => id = reader.signed()?,
                _ => return Err(GobError("a field definition has an unknown member")),
            }
        }
        Ok((name, id))
    }

    fn fields(&self, id: i64) -> Result<&[(String, i64)], GobError> {
        let found = self.0.iter().find(|(known, _)| *known == id);
        found
            .map(|(_, fields)| fields.as_slice())
            .ok_or(GobError("a type is not defined"))
    }

    fn named(&self, id: i64, number: u64) -> Result<(&str, i64), GobError> {
        let index =
            usize::try_from(number - 1).map_err(|_| GobError("a field number is too large"))?;
        let field = self
            .fields(id)?
            .get(index)
            .ok_or(GobError("a field is not defined"))?;
        Ok((field.0.as_str(), field.1))
    }

    fn value(&self, id: i64, reader: &mut Reader<'_>) -> Result<PluginState, GobError> {
        let mut state = PluginState::default();
        let mut last = 0;
        while let Some(number) = reader.next_field(&mut last)? {
            match self.named(id, number)? {
                ("Phase", _) => {
                    state.progress = match reader.unsigned()? {
                        0 => Progress::NotStarted,
                        _ => Progress::Started,
                    };
                }
                ("K8sPluginState", inner) => self.inner(inner, reader, &mut state)?,
                // Times encode themselves: a length and that many bytes.
                ("LastEventUpdate", _) => {
                    let length = reader.length()?;
                    state.last_event_update = time_of(reader.take(length)?)?;
                }
                _ => return Err(GobError("the state has an unknown field")),
            }
        }
        Ok(state)
    }

    fn inner(
        &self,
        id: i64,
        reader: &mut Reader<'_>,
        state: &mut PluginState,
    ) -> Result<(), GobError> {
        let mut last = 0;
        while let Some(number) = reader.next_field(&mut last)? {
            match self.named(id, number)?.0 {
                "Phase" => state.phase = TaskPhase::from(reader.signed()?),
                "PhaseVersion" => {
                    state.phase_version = u32::try_from(reader.unsigned()?)
                        .map_err(|_| GobError("a phase version is too large"))?;
                }
                "Reason" => state.reason = reader.text()?,
                _ => return Err(GobError("the inner state has an unknown field")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worked(suffix: &str) -> String {
        format!("{}{suffix}", DEFINITIONS.trim_end_matches('='))
    }

    #[test]
    fn the_worked_values_of_the_specification_are_written_and_read() {
        for (suffix, state) in [
            ("F/4ICAAA=", PluginState::default()),
            (
                "H/4IBAgEAAA==",
                PluginState {
                    progress: Progress::Started,
                    ..PluginState::default()
                },
            ),
            (
                "g/4IBAgEBBgIVdGFzayBzdWJtaXR0ZWQgdG8gSzhzAAA=",
                PluginState {
                    progress: Progress::Started,
                    phase: TaskPhase::Queued,
                    phase_version: 0,
                    reason: "task submitted to K8s".into(),
                    last_event_update: None,
                },
            ),
            (
                "c/4IBAgEBCgEBAAEPAQAAAA7dJXQlAAAAAP//AA==",
                PluginState {
                    progress: Progress::Started,
                    phase: TaskPhase::Running,
                    phase_version: 1,
                    reason: String::new(),
                    last_event_update: Some("2024-01-02T03:04:05Z".parse().unwrap()),
                },
            ),
        ] {
            assert_eq!(
                PluginState::decode(&worked(suffix)).unwrap(),
                state,
                "{suffix}"
            );
            assert_eq!(state.encode(), worked(suffix), "{state:?}");
        }
    }

    #[test]
    fn a_stream_of_another_process_is_read() {
        let recorded = "S38DAQELUGx1Z2luU3RhdGUB/4AAAQMBBVBoYXNlAQYAAQ5LOHNQbHVnaW5TdGF0ZQH/ggABD0xhc3RFdmVudFVwZGF0ZQH/hAAAAD//gQMBAQtQbHVnaW5TdGF0ZQH/ggABAwEFUGhhc2UBBAABDFBoYXNlVmVyc2lvbgEGAAEGUmVhc29uAQwAAAAQ/4MFAQEEVGltZQH/hAAAACD/gAECAQEGAhV0YXNrIHN1Ym1pdHRlZCB0byBLOHMAAA==";
        assert_eq!(
            PluginState::decode(recorded).unwrap(),
            PluginState {
                progress: Progress::Started,
                phase: TaskPhase::Queued,
                phase_version: 0,
                reason: "task submitted to K8s".into(),
                last_event_update: None,
            }
        );
    }

    #[test]
    fn streams_that_are_cut_short_are_errors() {
        let whole = STANDARD
            .decode(
                PluginState {
                    progress: Progress::Started,
                    ..PluginState::default()
                }
                .encode(),
            )
            .unwrap();
        for length in 0..whole.len() {
            let text = STANDARD.encode(&whole[..length]);
            assert_eq!(PluginState::decode(&text).is_ok(), length == 0, "{length}");
        }
    }
}
