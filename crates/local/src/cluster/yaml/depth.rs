//! How deep the text of a YAML document nests, measured in one pass and without recursion: the reader's cost grows with the
//! depth, so it has to be known before.
//!
//! Only what decides where a collection begins and ends is told apart: quoted, plain and block scalars, comments, properties
//! of nodes, and the columns that blocks begin at (YAML 1.2 chapters 7 and 8). Of a document that is not YAML, the depth
//! is that up to where it stops being so, or more.

/// How many directives (`%YAML`, `%TAG`) a document may have: each is compared with all others.
pub(crate) const DIRECTIVES: usize = 16;

/// What the text of a document has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// The deepest nesting of mappings and sequences.
    pub(crate) depth: usize,
    pub(crate) directives: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Mapping,
    Sequence,
}

/// Measures the documents of a text.
pub(crate) fn measure(yaml: &[u8]) -> Measured {
    let mut scan = Scan {
        text: yaml.strip_prefix(b"\xef\xbb\xbf").unwrap_or(yaml),
        at: 0,
        line: 0,
        blocks: Vec::new(),
        flow: 0,
        key: None,
        key_depth: 0,
        measured: Measured::default(),
    };
    while scan.token() {
        let depth = scan.blocks.len() + scan.flow;
        scan.measured.depth = scan.measured.depth.max(depth);
    }
    scan.measured
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// Where the line begins.
    line: usize,
    /// The columns of the open blocks.
    blocks: Vec<(usize, Block)>,
    /// How many flow collections are open.
    flow: usize,
    /// The column of the node that becomes a key if a colon follows it.
    key: Option<usize>,
    /// How deep that node nests itself.
    key_depth: usize,
    measured: Measured,
}

impl Scan<'_> {
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn column(&self) -> usize {
        self.at - self.line
    }

    /// The column below which the innermost block ends.
    fn inside(&self) -> usize {
        self.blocks.last().map_or(0, |(column, _)| column + 1)
    }

    /// The length of the line break here: also those that only YAML 1.1 has.
    fn line_break(&self) -> Option<usize> {
        match self.text.get(self.at..)? {
            [b'\r', b'\n', ..] | [0xc2, 0x85, ..] => Some(2),
            [b'\r' | b'\n', ..] => Some(1),
            [0xe2, 0x80, 0xa8 | 0xa9, ..] => Some(3),
            _ => None,
        }
    }

    /// Whether a blank, a line break or the end is `ahead` of here.
    fn is_blank(&self, ahead: usize) -> bool {
        matches!(
            self.text.get(self.at + ahead..),
            None | Some(
                [] | [b' ' | b'\t' | b'\r' | b'\n', ..]
                    | [0xc2, 0x85, ..]
                    | [0xe2, 0x80, 0xa8 | 0xa9, ..]
            )
        )
    }

    /// Goes over one byte, or a line break; says whether there was one.
    fn step(&mut self) -> bool {
        if let Some(length) = self.line_break() {
            self.at += length;
            self.line = self.at;
        } else if self.at < self.text.len() {
            self.at += 1;
        } else {
            return false;
        }
        true
    }

    fn rest_of_line(&mut self) {
        while self.line_break().is_none() && self.step() {}
    }

    /// Goes over one token; says whether there was one.
    fn token(&mut self) -> bool {
        loop {
            if self.line_break().is_some() {
                if self.flow == 0 {
                    self.key = None;
                }
                self.step();
            } else {
                match self.byte(0) {
                    Some(b' ' | b'\t') => self.at += 1,
                    Some(b'#') => self.rest_of_line(),
                    Some(_) => break,
                    None => return false,
                }
            }
        }
        if self.column() == 0 && self.document_mark() {
            return true;
        }
        if self.flow == 0 {
            let column = self.column();
            while self.blocks.last().is_some_and(|(open, _)| *open > column) {
                self.blocks.pop();
            }
        }
        self.node();
        true
    }

    /// Goes over what stands between documents.
    fn document_mark(&mut self) -> bool {
        let is_mark = self.is_document_mark();
        if is_mark {
            self.at += 3;
        } else if self.byte(0) == Some(b'%') && self.flow == 0 {
            self.measured.directives += 1;
            self.rest_of_line();
        } else {
            return false;
        }
        self.blocks.clear();
        self.key = None;
        true
    }

    fn is_document_mark(&self) -> bool {
        self.column() == 0
            && matches!(self.text.get(self.at..self.at + 3), Some(b"---" | b"..."))
            && self.is_blank(3)
    }

    fn node(&mut self) {
        let column = self.column();
        let Some(first) = self.byte(0) else {
            return;
        };
        match first {
            b'[' | b'{' => {
                self.may_be_key(column);
                self.flow += 1;
                self.key_depth = self.key_depth.max(self.flow);
                self.at += 1;
            }
            b']' | b'}' => {
                self.flow = self.flow.saturating_sub(1);
                self.at += 1;
            }
            b',' if self.flow > 0 => self.at += 1,
            b'-' if self.flow == 0 && self.is_blank(1) => {
                self.open(column, Block::Sequence);
                self.key = None;
                self.at += 1;
            }
            b'?' if self.is_blank(1) => {
                self.open(column, Block::Mapping);
                self.key = None;
                self.at += 1;
            }
            b':' if self.flow > 0 || self.is_blank(1) => {
                // In flow collections, the key of the block around them stays.
                if self.flow == 0 {
                    let key = self.key.take().unwrap_or(column);
                    self.open(key, Block::Mapping);
                    let depth = self.blocks.len() + std::mem::take(&mut self.key_depth);
                    self.measured.depth = self.measured.depth.max(depth);
                }
                self.at += 1;
            }
            b'&' | b'*' | b'!' => {
                self.may_be_key(column);
                self.property();
            }
            b'|' | b'>' if self.flow == 0 => self.block_scalar(),
            b'\'' | b'"' => {
                self.may_be_key(column);
                self.quoted(first);
            }
            _ => {
                self.may_be_key(column);
                self.plain();
            }
        }
    }

    fn may_be_key(&mut self, column: usize) {
        if self.flow == 0 && self.key.is_none() {
            self.key = Some(column);
            self.key_depth = 0;
        }
    }

    /// Opens a block, unless it is open. The items of a sequence may stand below the key that they belong to.
    fn open(&mut self, column: usize, block: Block) {
        if self.flow > 0 {
            return;
        }
        match (self.blocks.last().copied(), block) {
            (Some((open, _)), _) if open > column => {}
            (Some((open, Block::Sequence)), Block::Mapping) if open == column => {
                self.blocks.pop();
                self.open(column, block);
            }
            (Some((open, found)), _) if open == column && found == block => {}
            _ => self.blocks.push((column, block)),
        }
    }

    /// An anchor, an alias or a tag.
    fn property(&mut self) {
        let is_tag = self.byte(0) == Some(b'!');
        self.at += 1;
        if is_tag && self.byte(0) == Some(b'<') {
            while !self.is_blank(0) && self.byte(0) != Some(b'>') {
                self.at += 1;
            }
        }
        let ends = |byte: u8| {
            if is_tag {
                matches!(byte, b',' | b'[' | b']' | b'{' | b'}')
            } else {
                !matches!(byte, b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
            }
        };
        while !self.is_blank(0) && !self.byte(0).is_none_or(ends) {
            self.at += 1;
        }
    }

    fn quoted(&mut self, quote: u8) {
        self.at += 1;
        while let Some(byte) = self.byte(0) {
            if byte == quote {
                self.at += 1;
                if quote == b'"' || self.byte(0) != Some(quote) {
                    return;
                }
                self.at += 1;
            } else {
                if byte == b'\\' && quote == b'"' {
                    self.at += 1;
                }
                self.step();
            }
        }
    }

    fn plain(&mut self) {
        let inside = self.inside();
        loop {
            if self.line_break().is_some() {
                // It goes on in the next line that is not empty, if that is inside the same block and no comment.
                let before = (self.at, self.line);
                while self.line_break().is_some() || matches!(self.byte(0), Some(b' ' | b'\t')) {
                    self.step();
                }
                let ends = self.byte(0).is_none_or(|byte| byte == b'#')
                    || self.is_document_mark()
                    || (self.flow == 0 && self.column() < inside);
                if ends {
                    (self.at, self.line) = before;
                    return;
                }
                // A key is on one line.
                self.key = None;
                continue;
            }
            match self.byte(0) {
                None => return,
                Some(b':') if self.is_blank(1) => return,
                Some(b':')
                    if self.flow > 0
                        && matches!(self.byte(1), Some(b',' | b'[' | b']' | b'{' | b'}')) =>
                {
                    return;
                }
                Some(b',' | b'[' | b']' | b'{' | b'}') if self.flow > 0 => return,
                Some(b' ' | b'\t') if self.byte(1) == Some(b'#') => return,
                Some(_) => self.at += 1,
            }
        }
    }

    fn block_scalar(&mut self) {
        self.at += 1;
        self.key = None;
        let inside = self.inside().max(1);
        let mut indent = None;
        while let Some(byte @ (b'+' | b'-' | b'0'..=b'9')) = self.byte(0) {
            if byte.is_ascii_digit() {
                indent = Some(inside - 1 + usize::from(byte - b'0'));
            }
            self.at += 1;
        }
        self.rest_of_line();
        let mut widest = 0;
        while self.step() {
            while self.byte(0) == Some(b' ') && indent.is_none_or(|indent| self.column() < indent) {
                self.at += 1;
            }
            if self.line_break().is_some() {
                widest = widest.max(self.column());
                continue;
            }
            // The first line that is not empty says where the text stands.
            let indent = *indent.get_or_insert(self.column().max(widest).max(inside));
            if self.column() < indent {
                return;
            }
            self.rest_of_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collections_count_where_they_nest() {
        for (yaml, expected) in [
            ("a", 0),
            ("", 0),
            ("a: b", 1),
            ("- - - a", 3),
            ("- a: b\n  c: d\n- e", 2),
            ("a:\n  b:\n    c: d\ne:\n  f: g", 3),
            ("a:\n- b:\n  - c", 4),
            ("a:\n- b\nc:\n- d\n", 2),
            ("? - a\n: - b\n", 2),
            ("{a: {b: [c]}}", 3),
            ("a: {b: [c, {d: e}]}", 4),
            ("{a: b}: {c: d}", 2),
            ("[]: a", 2),
            ("{a: b}: c\nd: e", 2),
            ("- &x !t {a: *x}", 2),
            ("&x a: [b]", 2),
            ("a: &x b\n*x: [c]", 2),
            ("---\na: b\n---\n- - c\n...\n", 2),
        ] {
            assert_eq!(measure(yaml.as_bytes()).depth, expected, "{yaml:?}");
        }
    }

    #[test]
    fn brackets_in_texts_do_not_count() {
        for yaml in [
            "a: b[[[",
            "a: b\n  [[[ c\n  - - - d\n",
            "a: 'it''s [[['",
            r#"a: "\"[[[""#,
            "a: \"\n[[[\n\"",
            "a: b # [[[",
            "a: it's [[[\n",
            "# [[[\na: b",
            "a: |\n  [[[\n\n   {{{\n  - - -\nb: c",
            "a: >2-\n    [[[\n  {{{\nb: c",
            "a: |+ # {\n\n  [[[\n",
            "|\n [[[\n",
            "a: !<[[[> b",
            "a: {{{",
        ] {
            let expected = usize::from(yaml.contains("a:"));
            let expected = if yaml == "a: {{{" { 4 } else { expected };
            assert_eq!(measure(yaml.as_bytes()).depth, expected, "{yaml:?}");
        }
    }

    #[test]
    fn lines_end_where_the_reader_ends_them() {
        for end in ["\n", "\r", "\r\n", "\u{85}", "\u{2028}"] {
            assert_eq!(
                measure(format!("# a{end}[[[").as_bytes()).depth,
                3,
                "{end:?}"
            );
        }
    }

    fn depth_of(value: &serde_norway::Value) -> usize {
        use serde_norway::Value;
        match value {
            Value::Sequence(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
            Value::Mapping(members) => {
                let parts = members.iter().flat_map(|(key, member)| [key, member]);
                1 + parts.map(depth_of).max().unwrap_or(0)
            }
            Value::Tagged(tagged) => depth_of(&tagged.value),
            _ => 0,
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(5_000))]

        /// Of everything that the reader takes, the depth is that of what it reads.
        #[test]
        fn the_reader_finds_the_same_depth(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "a", "b", ":", ": ", "a: ", "\na: ", "- ", "\n- ", "\n", "\n ", "\n  ", " ", "{", "}", "}", ", ", "'", "\"",
                    "|\n ", ">1\n", "#", " # ", "? ", "&x ", "!t ", "---\n", "\\", "\r", "\t", "%", "{a: ", "é", "\u{2028}",
                ]),
                1..14,
            )
        ) {
            let yaml = words.concat();
            if let Ok(value) = serde_norway::from_str::<serde_norway::Value>(&yaml) {
                proptest::prop_assert_eq!(measure(yaml.as_bytes()).depth, depth_of(&value), "{:?}", yaml);
            }
        }
    }
}
