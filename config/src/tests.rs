#![allow(clippy::unwrap_used)]

use std::fs;

use proptest::prelude::*;

use super::*;

/// Reads a text that has no errors.
pub(crate) fn resources(text: &str) -> Resources {
    match parse(&[("a.yaml".into(), text.into())]) {
        Ok(resources) => resources,
        Err(errors) => panic!("{errors}"),
    }
}

/// Returns the errors of a text, as `line: field: problem; remedy`.
pub(crate) fn errors(text: &str) -> Vec<String> {
    let errors = parse(&[("a.yaml".into(), text.into())]).unwrap_err();
    let shown = errors.iter().map(|error| error.to_string());
    shown.map(|text| text.strip_prefix("a.yaml:").unwrap().to_owned()).collect()
}

/// Returns the only error of a text.
pub(crate) fn error(text: &str) -> String {
    let mut errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

#[test]
fn all_errors_of_all_files_come_at_once() {
    let sources = [
        ("b.yaml".into(), include_str!("tests/wrong-b.yaml").into()),
        ("a.yaml".into(), include_str!("tests/wrong-a.yaml").into()),
    ];
    let shown = parse(&sources).unwrap_err().to_string();
    let expected = include_str!("tests/wrong.txt").trim_end();
    assert_eq!(shown, expected, "\n{shown}\n");
}

#[test]
fn a_whole_configuration_is_read() {
    let text = include_str!("tests/whole.yaml");
    let read = resources(text);
    assert_eq!(read.node.unwrap().id.as_deref(), Some("truck-17"));
    assert_eq!(read.apps.len(), 2);
    assert_eq!(read.uplinks.len(), 1);
    assert_eq!(read.components.len(), 2);
    assert_eq!(read.subscriptions.len(), 2);
    assert_eq!(read.configuration.metrics_enabled, Some(false));
    assert_eq!(read.warnings, Vec::<String>::new());
}

#[test]
fn files_and_resources_are_counted_with_those_that_are_wrong() {
    let wrong = "apiVersion: pannier.dev/v1\nkind: Uplink\n";
    let sources =
        [("a.yaml".into(), format!("{}---\n{wrong}", app("a"))), ("b.yaml".into(), "".into())];
    let (resources, errors) = parse_into(Report::default(), &sources);
    assert_eq!((resources.files, resources.documents), (2, 2));
    assert!(errors.is_some());
}

#[test]
fn nothing_is_a_configuration_too() {
    assert!(parse(&[]).unwrap().components.is_empty());
    assert!(resources("").node.is_none());
    assert!(resources("---\n# nothing here\n---\n").apps.is_empty());
}

#[test]
fn a_document_that_is_no_map_is_refused() {
    assert_eq!(
        error("- a\n"),
        "1: expected a map, found a list; write its fields below it, indented"
    );
    assert_eq!(
        error("hello\n"),
        "1: expected a map, found text; write its fields below it, indented"
    );
}

#[test]
fn unknown_kinds_and_versions_have_errors_of_their_own() {
    struct Case {
        version: &'static str,
        kind: &'static str,
        error: &'static str,
    }
    let cases = [
        Case {
            version: "pannier.dev/v1",
            kind: "Uplnk",
            error: "2: kind: unknown kind \"Uplnk\"; did you mean Uplink?",
        },
        Case {
            version: "pannier.dev/v1",
            kind: "Sensor",
            error: "2: kind: unknown kind \"Sensor\"; known kinds are Node, App, Uplink",
        },
        Case {
            version: "pannier.dev/v2",
            kind: "Node",
            error: "1: apiVersion: Node is not of \"pannier.dev/v2\"; write pannier.dev/v1",
        },
        Case {
            version: "dapr.io/v1",
            kind: "Component",
            error: "1: apiVersion: Component is not of \"dapr.io/v1\"; write dapr.io/v1alpha1",
        },
        Case {
            version: "dapr.io/v1alpha1",
            kind: "Componnent",
            error: "2: kind: unknown kind \"Componnent\"; did you mean Component?",
        },
    ];
    let text = |version: &str, kind: &str| format!("apiVersion: {version}\nkind: {kind}\n");
    for case in cases {
        assert_eq!(error(&text(case.version, case.kind)), case.error);
    }
    assert!(error(&text("v1", "Secret")).starts_with("1: apiVersion: unknown apiVersion \"v1\""));
    assert_eq!(
        resources(&text("dapr.io/v1alpha1", "WorkflowAccessPolicy")).warnings,
        ["a.yaml:2: kind: unknown kind \"WorkflowAccessPolicy\", not acted on"]
    );
}

#[test]
fn kinds_that_we_do_not_act_on_are_named_in_a_warning() {
    let text = "---\napiVersion: dapr.io/v1alpha1\nkind: Resiliency\nspec: {policies: {}}\n---\n\
                apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\n";
    assert_eq!(
        resources(text).warnings,
        [
            "a.yaml:2: this version does not act on a Resiliency",
            "a.yaml:6: this version does not act on a HTTPEndpoint"
        ]
    );
}

#[test]
fn json_is_read_with_tabs_and_foreign_json_is_left_alone() {
    let app = "{\n\t\"apiVersion\": \"pannier.dev/v1\",\n\t\"kind\": \"App\",\n\t\
               \"metadata\": {\"name\": \"a\"}\n}\n";
    let sources = [
        ("app.json".into(), app.into()),
        ("secrets.json".into(), "{\"redis-password\": \"hunter2\"}".into()),
        ("list.json".into(), "[1, 2]".into()),
    ];
    let read = parse(&sources).unwrap();
    assert_eq!(read.apps[0].id, "a");
    assert_eq!(
        read.warnings,
        [
            "secrets.json:1: no resource: it has neither an apiVersion nor a kind",
            "list.json:1: no resource: it is not a map"
        ]
    );
}

#[test]
fn a_text_over_the_limit_is_refused() {
    let text = format!("# {}\n", "x".repeat(MAX_FILE_BYTES));
    assert_eq!(
        parse(&[("big.yaml".into(), text)]).unwrap_err().to_string(),
        "big.yaml: the file is larger than 1 MiB; split it, or move what is no configuration elsewhere"
    );
}

#[test]
fn no_error_shows_a_secret() {
    let text = "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {name: u}\nspec:\n  mqtt:\n    \
                url: mqtt://user:hunter2@host\n    username: u\n    password: {literal: hunter2}\n";
    let shown = errors(text).join("\n");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("username and password"), "{shown}");
}

/// A temporary directory, removed on drop.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("pannier-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn app(name: &str) -> String {
    format!("apiVersion: pannier.dev/v1\nkind: App\nmetadata: {{name: {name}}}\n")
}

#[test]
fn a_directory_is_read_by_name_and_not_below() {
    let directory = Directory::new("by-name");
    directory.write("b.yml", app("b"));
    directory.write("a.yaml", app("a"));
    directory.write("c.json", "{apiVersion: pannier.dev/v1, kind: App, metadata: {name: c}}");
    directory.write("notes.txt", "not: [yaml");
    directory.write(".hidden.yaml", "not: [yaml");
    directory.write("below/d.yaml", app("d"));
    let read = load(std::slice::from_ref(&directory.0)).unwrap();
    let ids: Vec<_> = read.apps.iter().map(|app| app.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(read.apps[0].origin, Origin { file: directory.0.join("a.yaml"), line: 1 });
}

#[test]
fn a_file_named_twice_is_read_once() {
    let directory = Directory::new("twice");
    let file = directory.write("a.yaml", app("a"));
    assert_eq!(load(&[file, directory.0.clone()]).unwrap().apps.len(), 1);
}

#[test]
fn files_that_can_not_be_read_are_all_reported() {
    let directory = Directory::new("unreadable");
    let latin = directory.write("latin.yaml", b"a: 1\nb: caf\xe9\n");
    let big = directory.write("big.yaml", vec![b'#'; MAX_FILE_BYTES + 1]);
    let gone = directory.0.join("gone");
    let errors = load(&[latin, big, gone]).unwrap_err();
    let shown: Vec<_> = errors.iter().map(|error| (error.line, error.problem.as_str())).collect();
    assert_eq!(shown.len(), 3, "{errors}");
    assert_eq!(shown[0], (0, "the file is larger than 1 MiB"));
    assert!(shown[1].1.starts_with("can't be read"));
    assert_eq!(shown[2], (2, "not valid UTF-8"));
}

/// Generates lines of real files, so that random joins of them reach deep into the readers.
fn piece() -> impl Strategy<Value = String> {
    let lines: Vec<String> =
        include_str!("tests/whole.yaml").lines().map(|line| format!("{line}\n")).collect();
    prop_oneof![8 => prop::sample::select(lines), 1 => "[ -~\n\t]{0,12}"]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = parse(&[("a.yaml".into(), text)]);
    }

    #[test]
    fn no_join_of_real_lines_makes_it_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let _ = parse(&[("a.yaml".into(), pieces.concat())]);
    }

    #[test]
    fn no_single_change_of_a_real_file_makes_it_panic(at in any::<prop::sample::Index>(), with in any::<char>()) {
        let mut text: Vec<char> = include_str!("tests/whole.yaml").chars().collect();
        let at = at.index(text.len());
        text[at] = with;
        let _ = parse(&[("a.yaml".into(), text.into_iter().collect())]);
    }
}
