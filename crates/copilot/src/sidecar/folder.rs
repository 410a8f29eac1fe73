//! What a container left in the folder of its outputs.
//!
//! A link is followed only to what is inside: the container may have made one to a file of this process, such as its
//! environment. What is neither a file nor a folder is refused, because reading a pipe never ends.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system's.
    #[error("{}", path.display())]
    Io {
        /// What was looked at.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A link to somewhere else.
    #[error("{} leads out of the folder of the outputs", .0.display())]
    LeadsOut(PathBuf),
    /// A pipe, a socket, a device, or a link to a folder within a folder.
    #[error("{} is neither a file nor a folder", .0.display())]
    NotAFile(PathBuf),
    /// A name that is not UTF-8, which no object can have.
    #[error("the name of {} is not UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// More than one file for one variable.
    #[error("output {variable:?} is ambiguous: {} and {} are both there", .files.0.display(), .files.1.display())]
    Ambiguous {
        /// The variable.
        variable: String,
        /// Two of the files.
        files: (PathBuf, PathBuf),
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { path, source }
}

/// What an output is on disk. Paths have no links any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    File { path: PathBuf, size: u64 },
    Folder(PathBuf),
}

/// The folder of the outputs.
#[derive(Clone, Debug)]
pub(super) struct Outputs {
    root: PathBuf,
}

impl Outputs {
    /// The folder at `path`; none if nobody made it.
    pub(super) fn at(path: &Path) -> Result<Option<Self>, FolderError> {
        match fs::canonicalize(path) {
            Ok(root) => Ok(Some(Self { root })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(path)(error)),
        }
    }

    /// What is at `name`; none if nothing is.
    pub(super) fn get(&self, name: &str) -> Result<Option<Found>, FolderError> {
        self.look(&self.root.join(name))
    }

    /// What is at `name`, else the one file whose name is that and an extension.
    pub(super) fn find(&self, name: &str) -> Result<Option<Found>, FolderError> {
        if let Some(found) = self.get(name)? {
            return Ok(Some(found));
        }
        let prefix = format!("{name}.");
        let mut first: Option<PathBuf> = None;
        for entry in fs::read_dir(&self.root).map_err(failed(&self.root))? {
            let entry = entry.map_err(failed(&self.root))?;
            let matches = entry
                .file_name()
                .to_str()
                .is_some_and(|file| file.starts_with(&prefix));
            match (matches, &first) {
                (false, _) => {}
                (true, None) => first = Some(entry.path()),
                (true, Some(first)) => {
                    let mut files = [first.clone(), entry.path()];
                    files.sort();
                    let [one, other] = files;
                    return Err(FolderError::Ambiguous {
                        variable: name.to_owned(),
                        files: (one, other),
                    });
                }
            }
        }
        first.map_or(Ok(None), |path| self.look(&path))
    }

    fn look(&self, path: &Path) -> Result<Option<Found>, FolderError> {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(path)(error)),
        };
        if !real.starts_with(&self.root) {
            return Err(FolderError::LeadsOut(path.to_owned()));
        }
        let metadata = fs::metadata(&real).map_err(failed(path))?;
        if metadata.is_dir() {
            Ok(Some(Found::Folder(real)))
        } else if metadata.is_file() {
            Ok(Some(Found::File {
                path: real,
                size: metadata.len(),
            }))
        } else {
            Err(FolderError::NotAFile(path.to_owned()))
        }
    }

    /// All files below `folder`, one after the other, with their names from there on.
    pub(super) fn walk(&self, folder: PathBuf) -> Walk<'_> {
        Walk {
            outputs: self,
            folders: vec![(folder, String::new())],
            open: None,
        }
    }
}

/// The files below a folder. It holds the folders that are still to be read, not their files.
pub(super) struct Walk<'a> {
    outputs: &'a Outputs,
    folders: Vec<(PathBuf, String)>,
    open: Option<(fs::ReadDir, String)>,
}

impl Walk<'_> {
    fn entry(
        &mut self,
        entry: &fs::DirEntry,
        below: &str,
    ) -> Result<Option<(PathBuf, String)>, FolderError> {
        let path = entry.path();
        let name = entry.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| FolderError::NotUtf8(path.clone()))?;
        let name = format!("{below}{name}");
        let kind = entry.file_type().map_err(failed(&path))?;
        if kind.is_dir() {
            self.folders.push((path, format!("{name}/")));
            return Ok(None);
        }
        match self.outputs.look(&path)? {
            Some(Found::File { path, .. }) => Ok(Some((path, name))),
            // A link to a folder may go in circles.
            Some(Found::Folder(_)) | None => Err(FolderError::NotAFile(path)),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(PathBuf, String), FolderError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((mut entries, below)) = self.open.take() else {
                let (folder, below) = self.folders.pop()?;
                match fs::read_dir(&folder) {
                    Ok(entries) => self.open = Some((entries, below)),
                    Err(error) => return Some(Err(failed(&folder)(error))),
                }
                continue;
            };
            let Some(entry) = entries.next() else {
                continue;
            };
            let found = entry
                .map_err(failed(Path::new(&below)))
                .and_then(|entry| self.entry(&entry, &below));
            self.open = Some((entries, below));
            if let Some(found) = found.transpose() {
                return Some(found);
            }
        }
    }
}
