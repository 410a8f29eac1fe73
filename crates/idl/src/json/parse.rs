//! A JSON parser that keeps positions and bounds nesting without recursion; errors are worded as by Go's
//! `encoding/json`, which the gateway runs before it looks at fields.

use serde_json::Value;

use crate::text::QuotedChar;

/// Deepest nesting of JSON values. Messages of [`crate::nesting::MAX_LEVELS`] levels need five JSON levels each at most.
pub(super) const MAX_DEPTH: usize = 5_100;

/// Most values of a text: each takes some hundred bytes of memory while it is read, and a text two.
const MAX_VALUES: usize = 1_000_000;

/// A value and where it begins, in bytes.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) start: usize,
    pub(super) json: Json,
}

#[derive(Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// The text as it was written, a valid JSON number.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) start: usize,
    pub(super) key: String,
    pub(super) value: Node,
}

impl Node {
    /// The value without positions. An integer that does not fit 64 bits becomes a double.
    pub(super) fn into_value(self) -> Value {
        match self.json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(value),
            Json::Number(text) => number(&text),
            Json::Text(text) => Value::String(text),
            Json::List(items) => items.into_iter().map(Self::into_value).collect(),
            Json::Object(members) => Value::Object(
                members
                    .into_iter()
                    .map(|member| (member.key, member.value.into_value()))
                    .collect(),
            ),
        }
    }
}

fn number(text: &str) -> Value {
    if let Ok(value) = text.parse::<i64>() {
        Value::from(value)
    } else if let Ok(value) = text.parse::<u64>() {
        Value::from(value)
    } else {
        Value::from(text.parse::<f64>().unwrap_or_default())
    }
}

enum Open {
    List(Node, Vec<Node>),
    Object(Node, Vec<Member>, Option<(usize, String)>),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Reads the first value of a text.
pub(super) fn parse(text: &[u8]) -> Result<Node, String> {
    let mut reader = Reader { bytes: text, at: 0 };
    let mut open: Vec<Open> = Vec::new();
    let mut expected = "looking for beginning of value";
    let mut values = 0;
    loop {
        values += 1;
        if values > MAX_VALUES {
            return Err(format!("JSON has more than {MAX_VALUES} values"));
        }
        reader.blanks();
        let mut done = match reader.value(expected)? {
            Token::Value(node) => node,
            Token::OpenList(start) => {
                reader.blanks();
                if reader.take(b']') {
                    Node {
                        start,
                        json: Json::List(Vec::new()),
                    }
                } else {
                    open.push(Open::List(
                        Node {
                            start,
                            json: Json::Null,
                        },
                        Vec::new(),
                    ));
                    deep_enough(&open)?;
                    expected = "looking for beginning of value";
                    continue;
                }
            }
            Token::OpenObject(start) => {
                reader.blanks();
                if reader.take(b'}') {
                    Node {
                        start,
                        json: Json::Object(Vec::new()),
                    }
                } else {
                    let key = reader.key()?;
                    open.push(Open::Object(
                        Node {
                            start,
                            json: Json::Null,
                        },
                        Vec::new(),
                        Some(key),
                    ));
                    deep_enough(&open)?;
                    continue;
                }
            }
        };
        // A value is complete: put it where it belongs and close what it completes.
        loop {
            let Some(top) = open.pop() else {
                return Ok(done);
            };
            reader.blanks();
            match top {
                Open::List(head, mut items) => {
                    items.push(done);
                    match reader.next()? {
                        b',' => {
                            open.push(Open::List(head, items));
                            break;
                        }
                        b']' => {
                            done = Node {
                                start: head.start,
                                json: Json::List(items),
                            };
                        }
                        _ => return Err(reader.invalid_before("after array element")),
                    }
                }
                Open::Object(head, mut members, key) => {
                    if let Some((start, key)) = key {
                        members.push(Member {
                            start,
                            key,
                            value: done,
                        });
                    }
                    match reader.next()? {
                        b',' => {
                            reader.blanks();
                            let key = reader.key()?;
                            open.push(Open::Object(head, members, Some(key)));
                            break;
                        }
                        b'}' => {
                            done = Node {
                                start: head.start,
                                json: Json::Object(members),
                            };
                        }
                        _ => return Err(reader.invalid_before("after object key:value pair")),
                    }
                }
            }
        }
    }
}

fn deep_enough(open: &[Open]) -> Result<(), String> {
    if open.len() > MAX_DEPTH {
        Err(format!("JSON nests deeper than {MAX_DEPTH} levels"))
    } else {
        Ok(())
    }
}

enum Token {
    Value(Node),
    OpenList(usize),
    OpenObject(usize),
}

fn eof() -> String {
    "unexpected EOF".to_owned()
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn next(&mut self) -> Result<u8, String> {
        let byte = self.peek().ok_or_else(eof)?;
        self.at += 1;
        Ok(byte)
    }

    fn invalid(&self, context: &str) -> String {
        // Go shows the byte at which it stops, as if it were a character.
        let character = self.peek().map_or(char::REPLACEMENT_CHARACTER, char::from);
        let shown = QuotedChar(character);
        format!("invalid character {shown} {context}")
    }

    fn invalid_before(&mut self, context: &str) -> String {
        self.at = self.at.saturating_sub(1);
        self.invalid(context)
    }

    fn value(&mut self, context: &str) -> Result<Token, String> {
        let start = self.at;
        let json = match self.peek().ok_or_else(eof)? {
            b'{' => {
                self.at += 1;
                return Ok(Token::OpenObject(start));
            }
            b'[' => {
                self.at += 1;
                return Ok(Token::OpenList(start));
            }
            b'"' => Json::Text(self.string()?),
            b't' => self.literal("true", Json::Bool(true))?,
            b'f' => self.literal("false", Json::Bool(false))?,
            b'n' => self.literal("null", Json::Null)?,
            b'-' | b'0'..=b'9' => Json::Number(self.number()?),
            _ => return Err(self.invalid(context)),
        };
        Ok(Token::Value(Node { start, json }))
    }

    fn literal(&mut self, word: &str, json: Json) -> Result<Json, String> {
        for expected in word.bytes() {
            match self.peek() {
                Some(byte) if byte == expected => self.at += 1,
                Some(_) => {
                    let context = format!(
                        "in literal {word} (expecting {})",
                        QuotedChar(expected.into())
                    );
                    return Err(self.invalid(&context));
                }
                None => return Err(eof()),
            }
        }
        Ok(json)
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        match self.peek() {
            Some(b'0'..=b'9') => {}
            Some(_) => return Err(self.invalid(context)),
            None => return Err(eof()),
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<String, String> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits("in numeric literal")?;
        }
        if self.take(b'.') {
            self.digits("after decimal point in numeric literal")?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _signed = self.take(b'+') || self.take(b'-');
            self.digits("in exponent of numeric literal")?;
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn key(&mut self) -> Result<(usize, String), String> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {}
            Some(_) => return Err(self.invalid("looking for beginning of object key string")),
            None => return Err(eof()),
        }
        let key = self.string()?;
        self.blanks();
        if self.take(b':') {
            Ok((start, key))
        } else if self.peek().is_none() {
            Err(eof())
        } else {
            Err(self.invalid("after object key"))
        }
    }

    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
                .unwrap_or(rest.len());
            let chunk = rest.get(..plain).unwrap_or_default();
            match std::str::from_utf8(chunk) {
                Ok(chunk) => text.push_str(chunk),
                Err(_) => return Err("invalid UTF-8 in string".to_owned()),
            }
            self.at += plain;
            match self.peek() {
                None => return Err(eof()),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.invalid("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let escaped = self.peek().ok_or_else(eof)?;
        let character = match escaped {
            b'"' | b'\\' | b'/' => char::from(escaped),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.invalid("in string escape code")),
        };
        self.at += 1;
        Ok(character)
    }

    fn unicode(&mut self) -> Result<char, String> {
        let high = self.hex4()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let follows = self.bytes.get(self.at..).unwrap_or_default();
        if !follows.starts_with(b"\\u") {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let mark = self.at;
        self.at += 2;
        let low = self.hex4()?;
        if !(0xdc00..0xe000).contains(&low) {
            self.at = mark;
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let combined = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        Ok(char::from_u32(combined).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for _ in 0..4 {
            let byte = self.peek().ok_or_else(eof)?;
            let digit = char::from(byte)
                .to_digit(16)
                .ok_or_else(|| self.invalid("in \\u hexadecimal character escape"))?;
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
    }
}
