//! 1213 list requests: codes, texts, rows, their order and the tokens of the reference, on the tables of
//! [`crate::list_world`].
//!
//! The reference leaves the order of equal keys to its database, so a page of it is right when its keys are ours
//! place by place and its rows are among all those that we list without a limit; a page that is not full has them all.

use std::collections::{BTreeSet, HashMap};

use flyte_idl::json;
use serde_json::{Value, json};

use crate::{
    harness::{Store, World, code_name, recorded, text},
    list_world::Tables,
    on_both_databases,
};

on_both_databases!(every_recorded_list_request_is_answered_as_by_the_reference);

/// UNKNOWN or INTERNAL answers are defects of the reference, answered INVALID_ARGUMENT here with the same
/// text (docs/compatibility.md, "Lists").
const DEFECTS: [&str; 2] = ["UNKNOWN", "INTERNAL"];

/// More rows than there are.
const UNLIMITED: u32 = u32::MAX;

/// A list of values for a function that takes one: the reference matches nothing, silently.
fn is_silent_list(filters: &str) -> bool {
    filters.starts_with("contains(") && filters.contains(';')
}

async fn every_recorded_list_request_is_answered_as_by_the_reference(store: Store) {
    let world = World::start(store).await;
    let tables = Tables::seed(&world).await;
    let mut replay = Replay {
        world,
        tables,
        whole: HashMap::new(),
    };
    let cases = recorded("lists.jsonl");
    assert_eq!(cases.len(), 1213);
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(difference) = replay.compare(case).await {
            wrong.push(format!(
                "{} {} {}:\n    {difference}",
                text(case, "rpc"),
                text(case, "note"),
                case["request"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of 1213:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

struct Replay {
    world: World,
    tables: Tables,
    /// What a request without limit answered, by rpc and request.
    whole: HashMap<String, Vec<String>>,
}

impl Replay {
    async fn compare(&mut self, case: &Value) -> Result<(), String> {
        let code = text(case, "code");
        let silent = is_silent_list(text(&case["request"], "filters"));
        match self.world.call(text(case, "rpc"), &case["request"]).await {
            Ok(answer) if code == "OK" && !silent => {
                let page =
                    Page::read(&json::dynamic_to_value(json::Codec::ProtoNames, &answer).unwrap());
                self.compare_pages(case, page).await
            }
            Ok(_) => Err("OK was not expected".to_owned()),
            Err(status) => {
                let defect = DEFECTS.contains(&code);
                let expected = if defect || silent {
                    "INVALID_ARGUMENT"
                } else {
                    code
                };
                let ours = code_name(status.code());
                // PostgreSQL checks types while it plans, so a defect's text may name another problem first.
                let same_text = defect || silent || status.message() == text(case, "message");
                if ours == expected && same_text {
                    return Ok(());
                }
                Err(format!(
                    "{code} {:?}, not {ours} {:?}",
                    text(case, "message"),
                    status.message()
                ))
            }
        }
    }

    async fn compare_pages(&mut self, case: &Value, ours: Page) -> Result<(), String> {
        let rpc = text(case, "rpc").rsplit('/').next().unwrap();
        let request = &case["request"];
        let all = self.unlimited(case, request.clone()).await;
        let limit = usize::try_from(request["limit"].as_u64().unwrap_or(0)).unwrap();
        let offset: usize = text(request, "token").parse().unwrap_or(0);
        let until = if limit == 0 {
            all.len()
        } else {
            (offset + limit).min(all.len())
        };
        let slice = all.get(offset..until).unwrap_or_default();
        if ours.rows != slice {
            return Err(format!(
                "the page {:?} is not {slice:?} of the whole list",
                ours.rows
            ));
        }
        let theirs = strings(&case["ids"]);
        match rpc {
            "ListNamedEntities" => {
                let full = ours.rows.len() == limit;
                let token = if full {
                    (offset + limit).to_string()
                } else {
                    String::new()
                };
                same("token", &token, &ours.token)?;
                self.compare_names(case, &all).await
            }
            "ListTaskIds" | "ListWorkflowIds" | "ListLaunchPlanIds" => {
                same("rows", &theirs, &ours.rows)?;
                same("token", text(case, "token"), ours.token.as_str())
            }
            // The reference ignores the resource type of descriptions (spec 01 §24 no. 15); the one that it
            // found is a task's.
            "ListDescriptionEntities" if text(request, "resource_type") != "TASK" => {
                same("rows", &[] as &[String], &ours.rows)
            }
            // The reference answers an execution once for each of its tags (spec 01 §24 no. 3).
            "ListExecutions" if text(request, "filters").contains("_tag.") => {
                same("count", theirs.len(), ours.rows.len())?;
                same("token", text(case, "token"), ours.token.as_str())?;
                all_in(&theirs, &all)
            }
            _ => {
                same("count", theirs.len(), ours.rows.len())?;
                same("token", text(case, "token"), ours.token.as_str())?;
                all_in(&theirs, &all)?;
                same(
                    "distinct rows",
                    theirs.len(),
                    theirs.iter().collect::<BTreeSet<_>>().len(),
                )?;
                let key = text(&request["sort_by"], "key");
                let column = match (rpc, key) {
                    ("ListProjects", "") => "identifier",
                    (_, "") => return Ok(()),
                    _ => key,
                };
                let keys = |rows: &[String]| -> Vec<Value> {
                    rows.iter()
                        .map(|row| self.tables.cell(rpc, row, column).clone())
                        .collect()
                };
                same("keys", &keys(&theirs), &keys(&ours.rows))
                    .map_err(|difference| format!("{theirs:?}, not {:?}: {difference}", ours.rows))
            }
        }
    }

    /// The reference takes a page of all names and filters it then; what is left must be what we say of these names.
    async fn compare_names(&mut self, case: &Value, fitting: &[String]) -> Result<(), String> {
        let request = &case["request"];
        let every = json!({
            "resource_type": request["resource_type"], "project": "flytesnacks", "domain": "development",
            "filters": "value_in(state,0;1;2)",
        });
        let every = self.unlimited(case, every).await;
        let mut names = self.tables.names(match text(request, "resource_type") {
            "TASK" => "tasks",
            "WORKFLOW" => "workflows",
            _ => "launch_plans",
        });
        same("names", &names, &every)?;
        let (key, direction) = (
            text(&request["sort_by"], "key"),
            text(&request["sort_by"], "direction"),
        );
        if key == "name" && direction != "ASCENDING" {
            names.reverse();
        }
        let offset: usize = text(request, "token").parse().unwrap_or(0);
        let limit = usize::try_from(request["limit"].as_u64().unwrap()).unwrap();
        let mut expected: Vec<String> = names
            .into_iter()
            .skip(offset)
            .take(limit)
            .filter(|name| fitting.contains(name))
            .collect();
        let mut theirs = strings(&case["ids"]);
        if key.is_empty() {
            expected.sort();
            theirs.sort();
        }
        same("rows", &theirs, &expected)
    }

    /// Every row that fits the request, in its order.
    async fn unlimited(&mut self, case: &Value, mut request: Value) -> Vec<String> {
        let rpc = text(case, "rpc");
        let fields = request.as_object_mut().unwrap();
        fields.remove("token");
        fields.remove("limit");
        if !rpc.ends_with("ListProjects") {
            fields.insert("limit".to_owned(), json!(UNLIMITED));
        }
        let key = format!("{rpc} {request}");
        if let Some(rows) = self.whole.get(&key) {
            return rows.clone();
        }
        let answer = self.world.call(rpc, &request).await.unwrap();
        let rows =
            Page::read(&json::dynamic_to_value(json::Codec::ProtoNames, &answer).unwrap()).rows;
        self.whole.insert(key, rows.clone());
        rows
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, theirs: T, ours: T) -> Result<(), String> {
    if theirs == ours {
        return Ok(());
    }
    Err(format!("{what} {theirs:?}, not {ours:?}"))
}

fn all_in(rows: &[String], all: &[String]) -> Result<(), String> {
    match rows.iter().find(|row| !all.contains(row)) {
        Some(row) => Err(format!("{row} is not in {all:?}")),
        None => Ok(()),
    }
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap();
    list.iter()
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

/// Rows of a list, called as the recording calls them.
struct Page {
    rows: Vec<String>,
    token: String,
}

impl Page {
    fn read(answer: &Value) -> Self {
        let lists = answer
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_array);
        Self {
            rows: lists.flatten().map(label).collect(),
            token: text(answer, "token").to_owned(),
        }
    }
}

fn label(item: &Value) -> String {
    let id = if item["id"].is_object() {
        &item["id"]
    } else {
        item
    };
    if id["task_id"].is_object() {
        return format!(
            "{}/{}/{}",
            text(&id["node_execution_id"], "node_id"),
            text(&id["task_id"], "name"),
            id["retry_attempt"]
        );
    }
    match (
        text(id, "version"),
        text(id, "node_id"),
        text(id, "signal_id"),
    ) {
        ("", "", "") if id["name"].is_string() && !item["domains"].is_array() => {
            text(id, "name").to_owned()
        }
        ("", "", "") => text(item, "id").to_owned(),
        ("", node, signal) => format!("{node}{signal}"),
        (version, ..) => format!("{}@{version}", text(id, "name")),
    }
}
