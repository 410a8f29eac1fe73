//! The numbers of the embedded backend, beside those of Go Flyte and beside what no engine can beat.
//!
//! ```text
//! clients ──TCP──▶ flyteadmin (SQLite or PostgreSQL) ──▶ embedded Kubernetes API (SQLite) ◀── node that ends pods at once
//!                      ▲                                          ▲                                    ▲
//!                      └────────────── flytepropeller ────────────┘            floor: the same pods ───┘
//! ```
//!
//! All of it is what `flyte start` runs, wired by the same lines, except for the node.

mod alone;
mod backend;
mod floor;
mod lists;
mod measure;
mod neighbours;
mod node;
mod observe;
mod process;
mod report;
mod shapes;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{
    CommandFactory as _, FromArgMatches as _, Parser, ValueEnum, builder::PossibleValuesParser,
};
use flyte_platform::{
    cli,
    sql::DatabaseConfig,
    telemetry::{self, Format, FormatterConfig, LoggerConfig, OtelConfig},
};

use backend::Engine;
use flyte_postgres::{Durability, Postgres};
use measure::{Load, MemoryResult, Work};
use report::Report;
use shapes::{ONE, SHAPES, Shape};

/// Measures Flyte embedded: API, engine, storage and Kubernetes API in this process, as
/// `flyte start` runs them, with a node that ends every pod at once (Pending, Running and Succeeded
/// in status writes of their own).
///
/// All of these but the lists are measured unless --part chooses:
///
///   shapes  executions one at a time: the wall time from the CreateExecution call until admin has
///           recorded SUCCEEDED, beside the floor: the same pods created and run on the same
///           cluster without any engine
///   load    one-task executions by many clients at once, from creation to success
///   create  CreateExecution by many clients at once while no engine runs, on SQLite and, where it
///           is installed, on PostgreSQL
///   alone   the engine with everything else in memory
///   neighbours  one workflow beside some thousand nodes whose pods the API server never takes, in memory
///   lists   pages of 100 from tables of a million rows, as the console and flytectl ask for them, on
///           SQLite and, where it is installed, on PostgreSQL; filling them takes some minutes and 10 GB
///
/// Numbers count only from a release build on a quiet machine: `make bench`.
#[derive(Parser)]
#[command(name = "flyte-benches", version, verbatim_doc_comment)]
struct Arguments {
    /// Measures only this; may be repeated
    #[arg(long, value_name = "PART")]
    part: Vec<Part>,
    /// Measures only this shape of workflow; may be repeated. Alone it means --part shapes
    #[arg(long, value_name = "SHAPE", value_parser = PossibleValuesParser::new(SHAPES.map(|shape| shape.name)))]
    shape: Vec<String>,
    /// How often each shape is run; the first run before these is not counted
    #[arg(long, value_name = "NUMBER", default_value_t = 11)]
    repetitions: usize,
    /// How many executions the clients create or run together
    #[arg(long, value_name = "NUMBER", default_value_t = 400)]
    executions: usize,
    /// How many clients there are under load, each with a connection of its own
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    clients: usize,
    /// How many nodes there are whose pods are never taken
    #[arg(long, value_name = "NUMBER", default_value_t = 5_000)]
    hopeless: usize,
    /// How many rows each table has that is listed; some thousand at least
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(20_000..=100_000_000))]
    rows: u32,
    /// Measures only lists whose title contains this. Alone it means --part lists
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    list: String,
    /// Measures lists on this database only
    #[arg(long, value_name = "DATABASE")]
    database: Option<Store>,
    /// Keeps the databases of lists here for the next run, which need not fill them again
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Where databases and blobs are kept while it runs; the disk under it counts [default: a folder below TMPDIR]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Prints one JSON document instead of tables
    #[arg(long)]
    json: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Executions one at a time, and memory
    Shapes,
    /// CreateExecution by many clients
    Create,
    /// One-task executions by many clients, and memory
    Load,
    /// The engine with everything else in memory
    Alone,
    /// A healthy workflow beside hopeless ones
    Neighbours,
    /// Pages of lists over a million rows
    Lists,
}

/// The databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Store {
    /// A file
    Sqlite,
    /// A server of its own, with Debian's package
    Postgres,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        if !self.part.is_empty() {
            return self.part.contains(&part);
        }
        match (self.shape.is_empty(), self.list.is_empty()) {
            (true, true) => part != Part::Lists,
            (shapes, lists) => (!shapes && part == Part::Shapes) || (!lists && part == Part::Lists),
        }
    }

    fn shapes(&self) -> Vec<Shape> {
        SHAPES
            .into_iter()
            .filter(|shape| {
                self.shape.is_empty() || self.shape.iter().any(|name| name == shape.name)
            })
            .collect()
    }
}

fn main() -> ExitCode {
    let matches = match cli::parse(Arguments::command(), std::env::args_os()) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    cli::run(async move { Box::pin(measure(&Arguments::from_arg_matches(&matches)?)).await })
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let logger = LoggerConfig {
        formatter: FormatterConfig { kind: Format::Text },
        ..LoggerConfig::default()
    };
    let _telemetry = telemetry::install(&logger, &OtelConfig::default(), "flyte-benches")?;
    let folder = match &arguments.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            tempfile::tempdir_in(folder)?
        }
        None => tempfile::tempdir()?,
    };
    // PostgreSQL's own user must be able to reach its folder.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable)?;
    let mut report = Report {
        profile: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        ..Report::default()
    };
    let bench = Bench {
        arguments,
        folder: folder.path(),
    };
    bench.show(&format!(
        "Flyte embedded, {} build, {} cores, data in {}\n",
        report.profile,
        report.cores,
        folder.path().display()
    ));
    if arguments.wants(Part::Shapes) || arguments.wants(Part::Load) {
        bench.whole(&mut report).await?;
    }
    if arguments.wants(Part::Create) {
        bench.create(&mut report).await?;
    }
    if arguments.wants(Part::Alone) {
        bench.alone(&mut report).await;
    }
    if arguments.wants(Part::Neighbours) {
        bench.neighbours(&mut report).await;
    }
    if arguments.wants(Part::Lists) {
        bench.lists(&mut report).await?;
    }
    if arguments.json {
        report::show(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    }
    Ok(())
}

const NO_POSTGRES: &str =
    "PostgreSQL is not installed here and is left out (Debian: apt-get install postgresql)\n";

/// One run of this program.
struct Bench<'a> {
    arguments: &'a Arguments,
    folder: &'a Path,
}

impl Bench<'_> {
    fn show(&self, text: &str) {
        if !self.arguments.json {
            report::show(text);
        }
    }

    fn load(&self, work: Work) -> Load {
        Load {
            clients: self.arguments.clients,
            executions: self.arguments.executions,
            work,
        }
    }

    fn sqlite(&self, name: &str) -> DatabaseConfig {
        DatabaseConfig::sqlite(self.folder.join(name).join("admin.db"))
    }

    /// Shapes and load on one backend, and its memory.
    async fn whole(&self, report: &mut Report) -> anyhow::Result<()> {
        let mut shapes = self.arguments.shapes();
        if !shapes.iter().any(|shape| shape.name == ONE.name) {
            shapes.push(ONE);
        }
        let (place, database) = (self.folder.join("whole"), self.sqlite("whole"));
        let backend = measure::backend(&place, database, Engine::On, &[]).await?;
        let mut memory = MemoryResult {
            idle: process::memory(),
            shapes: None,
            load: None,
        };
        shapes::register(backend.connect().await?, &shapes).await?;
        process::forget_peak();
        if self.arguments.wants(Part::Shapes) {
            self.show(&report::shapes_header());
            for shape in self.arguments.shapes() {
                let row = measure::shape(&backend, &shape, self.arguments.repetitions).await?;
                self.show(&report::shape(&row));
                report.shapes.push(row);
            }
            memory.shapes = Some(process::peak_memory());
        }
        if self.arguments.wants(Part::Load) {
            process::forget_peak();
            let title = "one task from creation to success, SQLite".to_owned();
            let row = measure::load(&backend, self.load(Work::Execute), title, "").await?;
            memory.load = Some(process::peak_memory());
            self.show(&report::load_header());
            self.show(&report::load(&row));
            report.load.push(row);
        }
        backend.stop().await?;
        self.show(&report::memory(&memory));
        report.memory = Some(memory);
        Ok(())
    }

    /// CreateExecution while no engine runs, on each database.
    async fn create(&self, report: &mut Report) -> anyhow::Result<()> {
        self.show(&report::load_header());
        let mut databases = vec![("SQLite", self.sqlite("create-SQLite"))];
        let postgres = Postgres::is_installed()
            .then(|| Postgres::start(&self.folder.join("postgres"), Durability::Disk))
            .transpose()?;
        match &postgres {
            Some(postgres) => databases.push(("PostgreSQL", postgres.database("bench"))),
            None => self.show(NO_POSTGRES),
        }
        for (name, database) in databases {
            let place = self.folder.join(format!("create-{name}"));
            let backend = measure::backend(&place, database, Engine::Off, &[ONE]).await?;
            let title = format!("CreateExecution, no engine, {name}");
            let load = self.load(Work::Create);
            let row = measure::load(&backend, load, title, "33/s, p50 232 ms").await?;
            self.show(&report::load(&row));
            report.load.push(row);
            backend.stop().await?;
        }
        Ok(())
    }

    /// The engine with everything else in memory.
    async fn alone(&self, report: &mut Report) {
        self.show(&report::alone_header());
        for shape in self.arguments.shapes() {
            let row = Box::pin(alone::shape(&shape, self.arguments.repetitions)).await;
            self.show(&report::alone(&row));
            report.engine_alone.push(row);
        }
    }

    /// A healthy workflow beside hopeless ones: with a task that takes no time, and one that takes a second.
    async fn neighbours(&self, report: &mut Report) {
        self.show(&report::neighbours_header());
        for seconds in [0, 1] {
            let (nodes, repetitions) = (self.arguments.hopeless, self.arguments.repetitions);
            let row = Box::pin(neighbours::neighbours(nodes, seconds, repetitions)).await;
            self.show(&report::neighbours(&row));
            report.neighbours.push(row);
        }
    }

    /// Pages of lists over many rows, on each database.
    async fn lists(&self, report: &mut Report) -> anyhow::Result<()> {
        self.show(&report::lists_header(self.arguments.rows));
        let folder = self.arguments.keep.as_deref().unwrap_or(self.folder);
        let wanted = |store| self.arguments.database.is_none_or(|only| only == store);
        let postgres = (wanted(Store::Postgres) && Postgres::is_installed())
            .then(|| Postgres::start(&folder.join("lists-postgres"), Durability::None))
            .transpose()?;
        let mut databases = Vec::new();
        if wanted(Store::Sqlite) {
            std::fs::create_dir_all(folder)?;
            let file = folder.join("lists.db");
            databases.push(("SQLite", DatabaseConfig::sqlite(file)));
        }
        match &postgres {
            Some(postgres) => databases.push(("PostgreSQL", postgres.database("lists"))),
            None if wanted(Store::Postgres) => self.show(NO_POSTGRES),
            None => {}
        }
        for (name, database) in databases {
            let place = self.folder.join(format!("lists-{name}"));
            std::fs::create_dir_all(&place)?;
            let lists = lists::Lists {
                name,
                database,
                folder: &place,
                rows: self.arguments.rows,
                repetitions: self.arguments.repetitions,
            };
            if let Some((filled, indexed)) = lists::prepare(&lists).await? {
                self.show(&report::filled(name, filled, indexed));
            }
            lists::measure(lists, &self.arguments.list, |row| {
                self.show(&report::list(&row));
                report.lists.push(row);
            })
            .await?;
        }
        Ok(())
    }
}
