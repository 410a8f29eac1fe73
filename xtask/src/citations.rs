//! Citations in comments, such as `spec 04 §7.3` or `spec 08 A18`, and the headings of docs/spec that they name.
//!
//! A comment says where its rule comes from; a heading that is renumbered or a page that goes would make it say
//! nothing. Cited are headings (`### 7.3 Branch`, `## A18. Compiler defects`), and of a heading's numbered parts those
//! that have none of their own (`A5.8` is part 8 of A5). `(design: The engine)` names a heading of docs/design.md, or what a
//! paragraph of it is about in bold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Folders whose Rust files cite.
const SOURCES: [&str; 4] = ["crates", "tests", "benches", "xtask"];

/// A citation that names nothing.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dangling {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line, from 1 on.
    pub(crate) line: usize,
    /// What is cited.
    pub(crate) citation: String,
}

/// All citations below `root` that name no heading, sorted.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn find(root: &Path) -> Result<Vec<Dangling>> {
    let headings = Headings::read(root)?;
    let mut files = Vec::new();
    for folder in SOURCES {
        collect(&root.join(folder), &mut files)?;
    }
    let mut dangling = Vec::new();
    for file in files {
        let text = read(&file)?;
        for (number, line) in text.lines().enumerate() {
            for citation in citations(line) {
                if !headings.has(&citation) {
                    dangling.push(Dangling {
                        file: file.clone(),
                        line: number + 1,
                        citation: citation.to_string(),
                    });
                }
            }
        }
    }
    dangling.sort();
    Ok(dangling)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// What a comment names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Citation {
    /// A page of docs/spec and a section of it; none for the page as a whole.
    Spec(String, Option<String>),
    /// A heading of docs/design.md.
    Design(String),
}

impl std::fmt::Display for Citation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spec(page, None) => write!(formatter, "spec {page}"),
            Self::Spec(page, Some(section)) => write!(formatter, "spec {page} {section}"),
            Self::Design(heading) => write!(formatter, "design: {heading}"),
        }
    }
}

/// The citations of one line; only comments cite.
fn citations(line: &str) -> Vec<Citation> {
    let Some((_, comment)) = line.split_once("//") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for after in comment.split("spec ").skip(1) {
        let Some(page) = after.get(..2).filter(|page| is_number(page)) else {
            continue;
        };
        let rest = after.get(2..).unwrap_or_default();
        let rest = rest.strip_prefix(' ').unwrap_or_default();
        let section = section(rest.strip_prefix('§').unwrap_or(rest));
        found.push(Citation::Spec(page.to_owned(), section));
        // `spec 04 §6.3, §6.4` and `spec 07 §1.5-1.7` name several of one page.
        for more in rest.split('§').skip(2) {
            if let Some(section) = self::section(more) {
                found.push(Citation::Spec(page.to_owned(), Some(section)));
            }
        }
    }
    for after in comment.split("(design: ").skip(1) {
        let heading = after.split([')', ',']).next().unwrap_or_default();
        found.push(Citation::Design(heading.to_owned()));
    }
    found
}

/// The number of a section at the beginning of a text: `7.3`, `A18`, `B2.1`.
fn section(text: &str) -> Option<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
    let end = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
    let number = text.get(..end)?.trim_end_matches('.');
    let mut letters = number.chars();
    let first = letters.next()?;
    let is_number = first.is_ascii_digit()
        || (first.is_ascii_uppercase()
            && letters.all(|letter| letter.is_ascii_digit() || letter == '.'));
    is_number.then(|| number.to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Numbers of the headings of each page, and the headings of the design.
struct Headings {
    pages: BTreeMap<String, BTreeSet<String>>,
    design: BTreeSet<String>,
}

impl Headings {
    fn read(root: &Path) -> Result<Self> {
        let mut pages = BTreeMap::new();
        let folder = root.join("docs/spec");
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("{} cannot be listed", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(page) = name.get(..2).filter(|page| is_number(page)) else {
                continue;
            };
            let text = read(&path)?;
            let numbers = headings(&text).filter_map(|heading| {
                let heading = heading.strip_prefix("Part ").unwrap_or(heading);
                let heading = heading.strip_prefix("Appendix ").unwrap_or(heading);
                section(heading)
            });
            pages.insert(page.to_owned(), numbers.collect());
        }
        let design = read(&root.join("docs/design.md"))?;
        Ok(Self {
            pages,
            design: headings(&design)
                .chain(terms(&design))
                .map(str::to_owned)
                .collect(),
        })
    }

    fn has(&self, citation: &Citation) -> bool {
        match citation {
            Citation::Spec(page, None) => self.pages.contains_key(page),
            Citation::Spec(page, Some(section)) => self.pages.get(page).is_some_and(|numbers| {
                let around = section.rsplit_once('.').map(|(around, _)| around);
                numbers.contains(section) || around.is_some_and(|around| numbers.contains(around))
            }),
            Citation::Design(heading) => self.design.contains(heading),
        }
    }
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
}

/// What is set in bold, which is what a paragraph is about.
fn terms(text: &str) -> impl Iterator<Item = &str> {
    text.split("**").skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(page: &str, section: &str) -> Citation {
        let section = Some(section.to_owned()).filter(|section| !section.is_empty());
        Citation::Spec(page.into(), section)
    }

    #[test]
    fn citations_are_found_in_comments_alone() {
        for (line, expected) in [
            ("let x = \"spec 04 §1\";", vec![]),
            (
                "/// As the table says (spec 04 §7.3).",
                vec![spec("04", "7.3")],
            ),
            ("// spec 08 A18, 11", vec![spec("08", "A18")]),
            (
                "//! What a node does (spec 04 §6, §7).",
                vec![spec("04", "6"), spec("04", "7")],
            ),
            ("/// (spec 07 §1.5-1.7)", vec![spec("07", "1.5")]),
            ("/// see spec 05", vec![spec("05", "")]),
            ("/// what the spec asks for", vec![]),
            (
                "/// (design: The engine)",
                vec![Citation::Design("The engine".into())],
            ),
        ] {
            assert_eq!(citations(line), expected, "{line}");
        }
    }

    #[test]
    fn parts_of_a_section_need_no_heading() {
        let numbers = BTreeSet::from(["A5".to_owned(), "7.3".to_owned()]);
        let headings = Headings {
            pages: BTreeMap::from([("08".to_owned(), numbers)]),
            design: BTreeSet::from(["Servers".to_owned()]),
        };
        for (citation, expected) in [
            (spec("08", "A5"), true),
            (spec("08", "A5.8"), true),
            (spec("08", "7.3"), true),
            (spec("08", "7.4"), false),
            (spec("08", ""), true),
            (spec("09", ""), false),
            (Citation::Design("Servers".into()), true),
            (Citation::Design("The Cellar".into()), false),
        ] {
            assert_eq!(headings.has(&citation), expected, "{citation}");
        }
    }
}
