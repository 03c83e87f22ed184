//! The wire of PostgreSQL, version 3, from the server's side, and as much of Redis' as a command takes.

pub(super) const BOOL: u32 = 16;
pub(super) const BYTEA: u32 = 17;
pub(super) const INT8: u32 = 20;
pub(super) const INT2: u32 = 21;
pub(super) const INT4: u32 = 23;
pub(super) const TEXT: u32 = 25;
pub(super) const OID: u32 = 26;
pub(super) const INET: u32 = 869;
pub(super) const TIMESTAMPTZ: u32 = 1184;
pub(super) const INT4_ARRAY: u32 = 1007;
pub(super) const PG_LSN: u32 = 3220;

/// The server waits for the next statement, outside a transaction.
pub(super) const READY: [u8; 6] = [b'Z', 0, 0, 0, 5, b'I'];

/// A value as it travels in binary.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int4(i32),
    /// An array with this one element.
    Int4Array(i32),
    Int8(i64),
    Oid(u32),
    Text(&'a str),
    /// An address of version 4.
    Inet([u8; 4]),
    /// Microseconds since 2000.
    Time(i64),
    Lsn(u64),
}

/// The rows of one statement, and how they are described.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    description: Vec<u8>,
    rows: Vec<u8>,
}

/// A column's name and type.
pub(super) type Column = (&'static str, u32);

impl Answer {
    /// No column, no row.
    pub(super) fn empty() -> Self {
        Self::of(&[])
    }

    /// These columns, no row yet.
    pub(super) fn of(columns: &[Column]) -> Self {
        let mut body = short(columns.len());
        for (name, kind) in columns {
            body.extend(name.as_bytes());
            body.push(0);
            // Of no table; the type, its length unknown, no modifier, in binary.
            body.extend([0; 6]);
            body.extend(kind.to_be_bytes());
            body.extend((-1_i16).to_be_bytes());
            body.extend((-1_i32).to_be_bytes());
            body.extend(1_i16.to_be_bytes());
        }
        Self { description: message(b'T', &body), rows: Vec::new() }
    }

    /// These columns and one row.
    pub(super) fn one(columns: &[Column], cells: &[Cell<'_>]) -> Self {
        let mut answer = Self::of(columns);
        answer.push(cells);
        answer
    }

    pub(super) fn push(&mut self, cells: &[Cell<'_>]) {
        let mut body = short(cells.len());
        for cell in cells {
            let mut put = |bytes: &[u8]| {
                body.extend(u32::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
                body.extend(bytes);
            };
            match cell {
                Cell::Null => body.extend((-1_i32).to_be_bytes()),
                Cell::Bool(value) => put(&[u8::from(*value)]),
                Cell::Int4(value) => put(&value.to_be_bytes()),
                Cell::Int8(value) | Cell::Time(value) => put(&value.to_be_bytes()),
                Cell::Int4Array(value) => {
                    // Dimensions, flags, type, length, first index; then the length of the element.
                    let words = [1, 0, 23, 1, 1, 4, *value].map(i32::to_be_bytes);
                    put(words.as_flattened());
                }
                Cell::Oid(value) => put(&value.to_be_bytes()),
                Cell::Text(value) => put(value.as_bytes()),
                Cell::Inet([a, b, c, d]) => put(&[2, 32, 0, 4, *a, *b, *c, *d]),
                Cell::Lsn(value) => put(&value.to_be_bytes()),
            }
        }
        self.rows.extend(message(b'D', &body));
    }

    /// Everything from the end of parsing to the end of the rows.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(message(b'1', &[]));
        out.extend(message(b'2', &[]));
        out.extend(message(b't', &short(0)));
        out.extend(&self.description);
        out.extend(&self.rows);
        out.extend(message(b'C', b"SELECT 0\0"));
    }
}

/// One message with its tag and length.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap_or_default().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// What follows a startup that is let in.
pub(super) fn welcome(pid: i32) -> Vec<u8> {
    let mut out = message(b'R', &0_i32.to_be_bytes());
    for (name, value) in
        [("server_version", "15.18"), ("server_encoding", "UTF8"), ("client_encoding", "UTF8")]
    {
        out.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
    }
    out.extend(message(b'K', &[pid.to_be_bytes(), 7_i32.to_be_bytes()].concat()));
    out.extend(READY);
    out
}

/// The answer to any statement of the simple protocol.
pub(super) fn simple_answer() -> Vec<u8> {
    [message(b'C', b"SELECT 0\0"), READY.to_vec()].concat()
}

/// The NAME of `/* dbtriage:NAME */` in the body of a Parse message.
pub(super) fn statement_name(parse: &[u8]) -> String {
    let text = String::from_utf8_lossy(parse);
    let name = text.split_once("/* dbtriage:").and_then(|(_, rest)| rest.split_once(" */"));
    name.map(|(name, _)| name.to_owned()).unwrap_or_default()
}

/// The parameters in the body of a Bind message.
pub(super) fn parameters(bind: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = bind;
    for _ in ["portal", "statement"] {
        let end = rest.iter().position(|byte| *byte == 0)?;
        rest = rest.get(end + 1..)?;
    }
    let (formats, after) = number(rest)?;
    let (count, mut rest) = number(after.get(2 * formats..)?)?;
    let mut all = Vec::new();
    for _ in 0..count {
        let length = int4(rest)?;
        let length = usize::try_from(length.max(0)).ok()?;
        all.push(rest.get(4..4 + length)?.to_vec());
        rest = rest.get(4 + length..)?;
    }
    Some(all)
}

/// An `int4` at the beginning.
pub(super) fn int4(bytes: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The elements of an `oid[]`: its header is dimensions, flags, type, length, first index.
pub(super) fn oids(array: &[u8]) -> Option<Vec<u32>> {
    let elements = array.get(20..).unwrap_or_default();
    elements.chunks_exact(8).map(|it| Some(int4(it.get(4..)?)?.cast_unsigned())).collect()
}

/// A command of Redis at the beginning of what was heard, and how long it is; `None` when it is not whole yet.
pub(super) fn redis_command(heard: &[u8]) -> Option<(Vec<String>, usize)> {
    let line = |from: usize| -> Option<(&[u8], usize)> {
        let rest = heard.get(from..)?;
        let end = rest.windows(2).position(|it| it == b"\r\n")?;
        Some((rest.get(..end)?, from + end + 2))
    };
    let count = |bytes: &[u8]| std::str::from_utf8(bytes.get(1..)?).ok()?.parse::<usize>().ok();
    let (head, mut at) = line(0)?;
    let mut words = Vec::new();
    for _ in 0..count(head).unwrap_or_default() {
        let (size, from) = line(at)?;
        let to = from + count(size)?;
        words.push(String::from_utf8_lossy(heard.get(from..to)?).into_owned());
        at = to + 2;
        heard.get(..at)?;
    }
    Some((words, at))
}

fn short(count: usize) -> Vec<u8> {
    u16::try_from(count).unwrap_or_default().to_be_bytes().to_vec()
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let two: [u8; 2] = bytes.get(..2)?.try_into().ok()?;
    Some((usize::from(u16::from_be_bytes(two)), bytes.get(2..)?))
}
