//! Lists of names against the rows that they are of: every page has the names that fit, in their order, whichever way the
//! repository finds them. One table has fewer names than one walk goes past (`repository::named_entities`), one has more.

use std::collections::{BTreeMap, BTreeSet};

use flyte_idl::{
    admin::{
        NamedEntityGetRequest, NamedEntityIdentifier, NamedEntityIdentifierList,
        NamedEntityIdentifierListRequest, NamedEntityList, NamedEntityListRequest, Sort,
        sort::Direction,
    },
    core::ResourceType,
};
use flyte_platform::sql::DbError;
use sea_query::{Expr, Query};
use tonic::Code;

use crate::{
    harness::{Store, World},
    on_both_databases,
};

on_both_databases!(
    pages_of_names_are_those_of_all_names,
    pages_of_ids_are_those_of_all_names,
    a_name_is_there_if_a_version_is,
);

const PROJECT: &str = "flytesnacks";
const DOMAIN: &str = "development";
/// Where names are that no list of [`PROJECT`] and [`DOMAIN`] shows.
const ELSEWHERE: [(&str, &str); 3] = [
    (PROJECT, "production"),
    ("aproject", DOMAIN),
    ("zproject", DOMAIN),
];

/// Table, type, and how many names it has in one project and domain.
const TABLES: [(&str, ResourceType, usize); 3] = [
    ("launch_plans", ResourceType::LaunchPlan, 40),
    ("workflows", ResourceType::Workflow, 300),
    ("tasks", ResourceType::Task, 2_600),
];

/// What pages begin behind, and how long they are.
const PAGES: [(u64, u32); 10] = [
    (0, 1),
    (0, 100),
    (0, 10_000),
    (3, 7),
    (39, 2),
    (250, 100),
    (1_950, 100),
    (1_990, 10),
    (2_550, 100),
    (9_999, 5),
];

/// What filters may ask of a name.
#[derive(Clone, Debug)]
struct Described {
    name: String,
    description: Option<String>,
    state: Option<i32>,
}

impl Described {
    fn state(&self) -> i32 {
        self.state.unwrap_or_default()
    }

    fn description_is(&self, test: fn(&str) -> bool) -> bool {
        self.description.as_deref().is_some_and(test)
    }
}

/// Filters, and the names that they hold for.
type Fits = fn(&Described) -> bool;
const FILTERS: [(&str, Fits); 13] = [
    ("", |it| !it.name.starts_with(".flytegen")),
    ("eq(state,0)", |it| it.state() == 0),
    ("eq(state,1)", |it| it.state() == 1),
    ("value_in(state,0;1;2)", |_| true),
    ("ne(named_entity_metadata.state,1)", |it| it.state() != 1),
    ("contains(name,a)", |it| it.name.contains('a')),
    ("contains(name,aaaaaaaa)", |_| false),
    ("not_like(name,.flytegen%)", |it| {
        !it.name.starts_with(".flytegen")
    }),
    ("gte(name,b)", |it| it.name.as_str() >= "b"),
    ("lt(name,b)", |it| it.name.as_str() < "b"),
    ("contains(description,old)", |it| {
        it.description_is(|text| text.contains("old"))
    }),
    ("ne(description,old)", |it| {
        it.description_is(|text| text != "old")
    }),
    ("contains(name,Z)+eq(state,1)", |it| {
        it.name.contains('Z') && it.state() == 1
    }),
];

/// Orders of lists; those by project or domain alone are by name.
const SORTS: [Option<(&str, Direction)>; 6] = [
    None,
    Some(("name", Direction::Ascending)),
    Some(("name", Direction::Descending)),
    Some(("project", Direction::Descending)),
    Some(("domain", Direction::Ascending)),
    Some(("domain", Direction::Descending)),
];

fn sort_by(sort: Option<(&str, Direction)>) -> Option<Sort> {
    sort.map(|(key, direction)| Sort {
        key: key.to_owned(),
        direction: direction.into(),
    })
}

/// Numbers that are the same in each run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let end = u64::try_from(end).unwrap();
        usize::try_from((mixed ^ (mixed >> 31)) % end).unwrap()
    }

    /// Few letters, so that names are prefixes of each other; some that LIKE, bytes and languages order in their own ways.
    fn name(&mut self) -> String {
        const LETTERS: [&str; 14] = [
            "a", "b", "z", "Z", "ä", "€", "%", "_", "\\", ".", "-", "0", "~", " ",
        ];
        let mut name = match self.below(5) {
            0 => ".flytegen.".to_owned(),
            _ => String::new(),
        };
        for _ in 0..=self.below(6) {
            name.push_str(LETTERS[self.below(LETTERS.len())]);
        }
        name
    }

    fn names(&mut self, count: usize) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        while names.len() < count {
            names.insert(self.name());
        }
        names
    }
}

/// The names of each table in [`PROJECT`] and [`DOMAIN`], in their order.
struct Names(BTreeMap<&'static str, Vec<Described>>);

impl Names {
    /// Fills the tables of `world`: each name has one version or some, and half of them have metadata.
    async fn seed(world: &World) -> Self {
        let mut numbers = Numbers(7);
        let mut tables = BTreeMap::new();
        for (table, kind, count) in TABLES {
            let mut versions = Vec::new();
            let mut described = Vec::new();
            for name in numbers.names(count) {
                for version in 0..=numbers.below(5) {
                    versions.push((PROJECT, DOMAIN, name.clone(), version));
                }
                let metadata = numbers.below(2) == 0;
                described.push(Described {
                    description: metadata
                        .then(|| ["", "old", "very old", "new"][numbers.below(4)].to_owned()),
                    state: metadata
                        .then(|| [Some(0), Some(1), Some(2), None][numbers.below(4)])
                        .flatten(),
                    name,
                });
            }
            for (project, domain) in ELSEWHERE {
                let names = numbers.names(20).into_iter();
                versions.extend(names.map(|name| (project, domain, name, 0)));
            }
            insert_versions(world, table, versions).await;
            insert_metadata(world, kind, described.clone()).await;
            tables.insert(table, described);
        }
        Self(tables)
    }
}

async fn insert_versions(
    world: &World,
    table: &'static str,
    versions: Vec<(&'static str, &'static str, String, usize)>,
) {
    world
        .database
        .write::<_, _, (), DbError>((table, versions), |(table, versions), tx| {
            Box::pin(async move {
                for versions in versions.chunks(500) {
                    let mut insert = Query::insert();
                    insert.into_table(*table);
                    let (required, empty) = match *table {
                        "workflows" => (vec!["remote_closure_identifier"], Expr::val("")),
                        "tasks" => (vec!["closure"], Expr::val(Vec::<u8>::new())),
                        _ => (vec!["spec", "closure"], Expr::val(Vec::<u8>::new())),
                    };
                    let columns = ["project", "domain", "name", "version"].into_iter();
                    insert.columns(columns.chain(required.iter().copied()));
                    for (project, domain, name, version) in versions {
                        let values = [*project, *domain, name.as_str()].map(Expr::val);
                        let values = values
                            .into_iter()
                            .chain([Expr::val(format!("v{version}"))])
                            .chain(required.iter().map(|_| empty.clone()));
                        insert.values_panic(values);
                    }
                    tx.execute(&insert).await?;
                }
                Ok(())
            })
        })
        .await
        .unwrap();
}

async fn insert_metadata(world: &World, kind: ResourceType, names: Vec<Described>) {
    world
        .database
        .write::<_, _, (), DbError>((i32::from(kind), names), |(kind, names), tx| {
            Box::pin(async move {
                let with_metadata: Vec<_> =
                    names.iter().filter(|it| it.description.is_some()).collect();
                for names in with_metadata.chunks(500) {
                    let mut insert = Query::insert();
                    insert.into_table("named_entity_metadata").columns([
                        "resource_type",
                        "project",
                        "domain",
                        "name",
                        "description",
                        "state",
                    ]);
                    for it in names {
                        insert.values_panic([
                            Expr::val(*kind),
                            Expr::val(PROJECT),
                            Expr::val(DOMAIN),
                            Expr::val(it.name.as_str()),
                            Expr::val(it.description.clone()),
                            Expr::val(it.state),
                        ]);
                    }
                    tx.execute(&insert).await?;
                }
                Ok(())
            })
        })
        .await
        .unwrap();
}

/// A page of `all`, and the token of the next one.
fn page<T>(all: Vec<T>, (offset, limit): (u64, u32)) -> (Vec<T>, String) {
    let length = usize::try_from(limit).unwrap();
    let page: Vec<T> = all
        .into_iter()
        .skip(usize::try_from(offset).unwrap())
        .take(length)
        .collect();
    let token = if page.len() == length {
        (offset + u64::from(limit)).to_string()
    } else {
        String::new()
    };
    (page, token)
}

async fn pages_of_names_are_those_of_all_names(store: Store) {
    let world = World::start(store).await;
    let names = Names::seed(&world).await;
    let mut pages = PAGES.into_iter().cycle();
    for (table, kind, _) in TABLES {
        for (filters, fits) in FILTERS {
            for sort in SORTS {
                let (offset, limit) = pages.next().unwrap();
                let request = NamedEntityListRequest {
                    resource_type: kind.into(),
                    project: PROJECT.to_owned(),
                    domain: DOMAIN.to_owned(),
                    limit,
                    token: offset.to_string(),
                    sort_by: sort_by(sort),
                    filters: filters.to_owned(),
                    ..NamedEntityListRequest::default()
                };
                let answer: NamedEntityList =
                    world.admin("ListNamedEntities", &request).await.unwrap();
                let found: Vec<_> = answer
                    .entities
                    .into_iter()
                    .map(|entity| {
                        assert_eq!(entity.resource_type, i32::from(kind));
                        let metadata = entity.metadata.unwrap();
                        let id = entity.id.unwrap();
                        assert_eq!((id.project.as_str(), id.domain.as_str()), (PROJECT, DOMAIN));
                        (id.name, metadata.description, metadata.state)
                    })
                    .collect();
                let mut all: Vec<_> = names.0[table]
                    .iter()
                    .filter(|it| fits(it))
                    .map(|it| {
                        let description = it.description.clone().unwrap_or_default();
                        (it.name.clone(), description, it.state())
                    })
                    .collect();
                if sort == Some(("name", Direction::Descending)) {
                    all.reverse();
                }
                assert_eq!(
                    (found, answer.token),
                    page(all, (offset, limit)),
                    "{request:?}"
                );
            }
        }
    }
}

async fn pages_of_ids_are_those_of_all_names(store: Store) {
    let world = World::start(store).await;
    let names = Names::seed(&world).await;
    for (rpc, table) in [
        ("ListTaskIds", "tasks"),
        ("ListWorkflowIds", "workflows"),
        ("ListLaunchPlanIds", "launch_plans"),
    ] {
        for sort in SORTS {
            for (offset, limit) in PAGES {
                let request = NamedEntityIdentifierListRequest {
                    project: PROJECT.to_owned(),
                    domain: DOMAIN.to_owned(),
                    limit,
                    token: offset.to_string(),
                    sort_by: sort_by(sort),
                    ..NamedEntityIdentifierListRequest::default()
                };
                let answer: NamedEntityIdentifierList = world.admin(rpc, &request).await.unwrap();
                let found = answer.entities.into_iter().map(|id| id.name).collect();
                let mut all: Vec<_> = names.0[table].iter().map(|it| it.name.clone()).collect();
                if sort == Some(("name", Direction::Descending)) {
                    all.reverse();
                }
                assert_eq!(
                    (found, answer.token),
                    page(all, (offset, limit)),
                    "{rpc} {request:?}"
                );
            }
        }
    }
}

async fn a_name_is_there_if_a_version_is(store: Store) {
    let world = World::start(store).await;
    let names = Names::seed(&world).await;
    for (table, kind, _) in TABLES {
        for it in names.0[table].iter().take(20) {
            let mut request = NamedEntityGetRequest {
                resource_type: kind.into(),
                id: Some(NamedEntityIdentifier {
                    project: PROJECT.to_owned(),
                    domain: DOMAIN.to_owned(),
                    name: it.name.clone(),
                    ..NamedEntityIdentifier::default()
                }),
            };
            let found: flyte_idl::admin::NamedEntity =
                world.admin("GetNamedEntity", &request).await.unwrap();
            assert_eq!(found.id, request.id);
            let metadata = found.metadata.unwrap();
            assert_eq!(
                (Some(metadata.description), metadata.state),
                (it.description.clone().or(Some(String::new())), it.state())
            );
            request.id.as_mut().unwrap().name.push('x');
            let absent = world
                .admin::<_, flyte_idl::admin::NamedEntity>("GetNamedEntity", &request)
                .await;
            assert_eq!(absent.unwrap_err().code(), Code::NotFound);
        }
    }
}
