//! Every key of docs/reference is heard by each program that reads it, or the program warns of it.
//!
//! Heard means that the code of the program, or what it is built on, reads the field: the test looks for such an
//! expression outside of tests. What a value then does is shown by tests of the rooms.

use std::{collections::BTreeMap, fs, path::Path};

use flyte_platform::cli::Sections;

/// A program, its sections, and the crates whose code is its own.
struct Reader {
    program: &'static str,
    sections: Sections,
    crates: &'static [&'static str],
}

/// Programs that do nothing yet and say so whatever they are told.
const UNBUILT: [&str; 1] = ["flytescheduler"];

fn readers() -> Vec<Reader> {
    vec![
        Reader {
            program: "flyteadmin",
            sections: flyte_admin::cli::sections(),
            crates: &["admin", "platform"],
        },
        Reader {
            program: "flytepropeller",
            sections: flyte_propeller::cli::sections(),
            crates: &["propeller", "plugins", "platform"],
        },
        Reader {
            program: "datacatalog",
            sections: flyte_datacatalog::cli::sections(),
            crates: &["datacatalog", "platform"],
        },
        Reader {
            program: "flyte-copilot",
            sections: flyte_copilot::cli::sections(),
            crates: &["copilot", "platform"],
        },
        Reader {
            program: "flyte",
            sections: crate::standalone::sections(),
            crates: &[
                "flyte",
                "admin",
                "datacatalog",
                "propeller",
                "plugins",
                "platform",
            ],
        },
    ]
}

/// Code of a crate without its tests, by file.
fn code(name: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(name)
            .join("src"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let end = text.find("#[cfg(test)]").unwrap_or(text.len());
                found.insert(path.display().to_string(), text[..end].to_owned());
            }
        }
    }
    found
}

/// The field that a key stands for.
fn field(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap();
    let mut field = String::new();
    let mut lower = false;
    for letter in last.chars() {
        if letter.is_ascii_uppercase() && lower {
            field.push('_');
        }
        lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        field.push(match letter {
            '-' => '_',
            letter => letter.to_ascii_lowercase(),
        });
    }
    match field.as_str() {
        "type" => "kind".to_owned(),
        _ => field,
    }
}

/// Whether `text` reads a field of this name.
fn reads(text: &str, field: &str) -> bool {
    text.match_indices(field).any(|(at, _)| {
        let after = text[at + field.len()..].chars().next();
        // Directly behind it: a sentence of the comment above a field ends with a dot, too.
        text[..at].ends_with('.')
            && after.is_none_or(|after| !after.is_alphanumeric() && after != '_' && after != '(')
    })
}

/// The rows of the reference: a key and the programs that read it.
fn reference() -> Vec<(String, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let mut readers = Vec::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(names) = line.strip_prefix("Read by ") {
            readers = names
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect();
        } else if let Some(row) = line.strip_prefix("| `") {
            let key = row.split('`').next().unwrap();
            rows.push((key.to_owned(), readers.clone()));
        }
    }
    rows
}

#[test]
fn every_key_is_heard_or_warned_about() {
    let code: BTreeMap<&str, BTreeMap<String, String>> = [
        "flyte",
        "admin",
        "datacatalog",
        "propeller",
        "plugins",
        "platform",
        "copilot",
    ]
    .map(|name| (name, code(name)))
    .into();
    let rows = reference();
    let of_readers = readers();
    let (mut heard, mut warned, mut unbuilt) = (0, 0, 0);
    let mut wrong = Vec::new();
    for (key, programs) in &rows {
        for program in programs {
            if UNBUILT.contains(&program.as_str()) {
                unbuilt += 1;
                continue;
            }
            let reader = of_readers
                .iter()
                .find(|reader| reader.program == program)
                .unwrap_or_else(|| panic!("{program} reads {key} and is not in the table"));
            let keys = reader.sections.keys();
            // A key below a list or map is part of the whole.
            let known = keys.iter().find(|(known, _)| {
                key.strip_prefix(known.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            });
            let Some((known, instead)) = known else {
                wrong.push(format!("{program} has no key {key}"));
                continue;
            };
            if instead.is_some() {
                warned += 1;
                continue;
            }
            let field = field(known);
            let evidence = reader
                .crates
                .iter()
                .flat_map(|name| &code[name])
                .find(|(_, text)| reads(text, &field) || !known.contains('.'));
            match evidence {
                Some(_) => heard += 1,
                None => wrong.push(format!(
                    "{program} neither reads `{field}` of {key} nor warns of it"
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The table is read, and both lists are in use.
    assert!(
        rows.len() > 200 && heard > 150 && warned > 10 && unbuilt > 50,
        "{} rows: {heard} heard, {warned} warned, {unbuilt} of programs that are not built",
        rows.len()
    );
}
