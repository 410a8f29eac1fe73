//! Entries as people read them.

use flyte_datacatalog::{
    domain::entries::TASK,
    management::{CacheEntry, Source},
};
use jiff::Timestamp;

/// Headings of the table.
const HEADINGS: [&str; 7] = [
    "PROJECT",
    "DOMAIN",
    "TASK",
    "VERSION",
    "AGE",
    "SIZE",
    "WRITTEN BY",
];

/// A table of entries, and whether there are more.
pub(super) fn table(shown: &[CacheEntry], more: bool, now: Timestamp) -> String {
    if shown.is_empty() {
        return "No entries.\n".to_owned();
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(shown.iter().map(|entry| {
        [
            entry.project.clone(),
            entry.domain.clone(),
            task(&entry.name).to_owned(),
            entry.version.clone(),
            age(entry.written_at, now),
            entry.bytes.map_or_else(|| "?".to_owned(), size),
            entry.source.as_ref().map_or_else(|| "?".to_owned(), source),
        ]
    }));
    let mut widths = [0; HEADINGS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    if more {
        let count = entries(shown.len() as u64);
        text.push_str(&format!(
            "{count} are shown and there are more; --limit shows them, flags such as --task choose\n"
        ));
    }
    text
}

/// What an eviction came to, in a line.
pub(super) fn evicted(number: u64, bytes: u64, dry_run: bool) -> String {
    let (count, size) = (entries(number), size(bytes));
    match (number, dry_run) {
        (0, _) => {
            "No entry fits; `flyte cache ls` shows what there is. Nothing is evicted.\n".to_owned()
        }
        (_, true) => format!("Would evict {count} ({size}).\n"),
        (_, false) => format!("Evicted {count} ({size}).\n"),
    }
}

/// The task of a dataset; the dataset itself, if it is of none.
fn task(dataset: &str) -> &str {
    dataset.strip_prefix(TASK).unwrap_or(dataset)
}

fn source(source: &Source) -> String {
    let Source {
        project,
        domain,
        execution,
        node,
        ..
    } = source;
    let place = format!("{project}/{domain}/{execution}");
    if node.is_empty() {
        place
    } else {
        format!("{place} {node}")
    }
}

/// An age in its largest unit.
fn age(written_at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(written_at).as_secs().max(0);
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(each, _)| seconds >= *each);
    let (each, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / each)
}

/// A number of bytes in a unit of a thousand.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded down.
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1_000;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many entries.
pub(super) fn entries(number: u64) -> String {
    match number {
        1 => "1 entry".to_owned(),
        number => format!("{} entries", count(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_999, "1.9 kB"),
            (999_999, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (12_345_678_901, "12.3 GB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
        for (number, expected) in [
            (1, "1 entry"),
            (999, "999 entries"),
            (1_234_567, "1,234,567 entries"),
        ] {
            assert_eq!(entries(number), expected);
        }
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (second, expected) in [
            (999_941, "59s"),
            (999_940, "1m"),
            (996_400, "1h"),
            (0, "11d"),
            (1_000_009, "0s"),
        ] {
            let then = Timestamp::from_second(second).unwrap();
            assert_eq!(age(then, now), expected, "{second}");
        }
    }

    #[test]
    fn a_table_lines_up() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let entry = CacheEntry {
            project: "flytesnacks".to_owned(),
            domain: "development".to_owned(),
            name: "flyte_task-m.square".to_owned(),
            version: "1.0-jUwlIzHW-PmK8qF6C".to_owned(),
            written_at: Timestamp::from_second(0).unwrap(),
            bytes: Some(1_200),
            source: Some(Source {
                project: "flytesnacks".to_owned(),
                domain: "production".to_owned(),
                execution: "f1".to_owned(),
                node: "n0".to_owned(),
                ..Source::default()
            }),
            ..CacheEntry::default()
        };
        let unknown = CacheEntry {
            name: "other".to_owned(),
            bytes: None,
            source: None,
            ..entry.clone()
        };
        let expected = "\
PROJECT      DOMAIN       TASK      VERSION                AGE  SIZE    WRITTEN BY
flytesnacks  development  m.square  1.0-jUwlIzHW-PmK8qF6C  11d  1.2 kB  flytesnacks/production/f1 n0
flytesnacks  development  other     1.0-jUwlIzHW-PmK8qF6C  11d  ?       ?
2 entries are shown and there are more; --limit shows them, flags such as --task choose
";
        assert_eq!(table(&[entry, unknown], true, now), expected);
        assert_eq!(table(&[], false, now), "No entries.\n");
        for (number, dry_run, expected) in [
            (
                0,
                true,
                "No entry fits; `flyte cache ls` shows what there is. Nothing is evicted.\n",
            ),
            (1, true, "Would evict 1 entry (7 B).\n"),
            (2, false, "Evicted 2 entries (7 B).\n"),
        ] {
            assert_eq!(evicted(number, 7, dry_run), expected);
        }
    }
}
