//! Builds the tree from the parser's events, without recursion.

use std::collections::HashMap;

use saphyr_parser::{Event, Tag};

use super::{MAX_DEPTH, MAX_TREE_BYTES, MapEntry, YamlFault, YamlNode, YamlValue, scalar};

/// Bytes of one value without its text.
const NODE_BYTES: usize = size_of::<MapEntry>();

/// The documents of one stretch of text.
pub(super) struct Builder<'a> {
    /// Number of lines before the parsed text.
    skipped: usize,
    /// Bytes that the rest of the file may take.
    budget: &'a mut usize,
    documents: Vec<YamlNode>,
    faults: Vec<YamlFault>,
    /// The open lists and maps, outermost first.
    open: Vec<Open>,
    /// The anchored values of this document, by the parser's number.
    anchors: HashMap<usize, Tree>,
}

/// A finished value, with its depth and size to bound the copies that aliases make.
#[derive(Clone)]
struct Tree {
    node: YamlNode,
    depth: usize,
    bytes: usize,
}

/// A list or a map that isn't finished.
struct Open {
    line: usize,
    anchor: usize,
    depth: usize,
    bytes: usize,
    items: Items,
}

enum Items {
    List(Vec<YamlNode>),
    Map { entries: Vec<MapEntry>, keys: HashMap<String, usize>, key: Option<(usize, String)> },
}

impl<'a> Builder<'a> {
    pub(super) fn new(skipped: usize, budget: &'a mut usize) -> Self {
        Self {
            skipped,
            budget,
            documents: Vec::new(),
            faults: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
        }
    }

    /// Returns the finished documents, and faults that didn't end one.
    pub(super) fn finish(self) -> (Vec<YamlNode>, Vec<YamlFault>) {
        (self.documents, self.faults)
    }

    /// Adds one event of the parser to the tree.
    pub(super) fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), YamlFault> {
        let line = line.max(1) + self.skipped;
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => {
                check_tag(tag.as_deref(), line)?;
                let bytes = NODE_BYTES + text.len();
                let value = match tag {
                    Some(tag) if tag.suffix == "str" => {
                        YamlValue::Scalar { text: text.into_owned(), quoted: true }
                    }
                    _ => scalar(text.into_owned(), style),
                };
                self.spend(bytes, line)?;
                self.place(Tree { node: YamlNode { line, value }, depth: 0, bytes }, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), line)?;
                self.enter(line, anchor, Items::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), line)?;
                let items = Items::Map { entries: Vec::new(), keys: HashMap::new(), key: None };
                self.enter(line, anchor, items)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave()?,
            Event::Alias(anchor) => self.alias(anchor, line)?,
            _ => {}
        }
        Ok(())
    }

    /// Opens a list or a map.
    fn enter(&mut self, line: usize, anchor: usize, items: Items) -> Result<(), YamlFault> {
        self.check_depth(0, line)?;
        self.spend(NODE_BYTES, line)?;
        self.open.push(Open { line, anchor, depth: 0, bytes: NODE_BYTES, items });
        Ok(())
    }

    /// Closes the innermost list or map.
    fn leave(&mut self) -> Result<(), YamlFault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.items {
            Items::List(items) => YamlValue::List(items),
            Items::Map { entries, .. } => YamlValue::Map(entries),
        };
        let node = YamlNode { line: open.line, value };
        self.place(Tree { node, depth: open.depth + 1, bytes: open.bytes }, open.anchor)
    }

    /// Adds a copy of an anchored value, after its size is taken from the budget.
    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), YamlFault> {
        let (depth, bytes) = match self.anchors.get(&anchor) {
            Some(tree) => (tree.depth, tree.bytes),
            None => {
                let problem = "an alias of an anchor that isn't finished, or of another document";
                return Err(YamlFault::new(line, problem, "write the value out"));
            }
        };
        self.check_depth(depth, line)?;
        self.spend(bytes, line)?;
        let Some(mut tree) = self.anchors.get(&anchor).cloned() else { return Ok(()) };
        tree.node.line = line;
        self.place(tree, 0)
    }

    /// Adds a finished value to the list or map that is open, or to the documents.
    fn place(&mut self, tree: Tree, anchor: usize) -> Result<(), YamlFault> {
        if anchor > 0 {
            self.spend(tree.bytes, tree.node.line)?;
            self.anchors.insert(anchor, tree.clone());
        }
        let Some(open) = self.open.last_mut() else {
            if tree.node.value != YamlValue::Null {
                self.documents.push(tree.node);
            }
            return Ok(());
        };
        open.depth = open.depth.max(tree.depth);
        open.bytes += tree.bytes;
        match &mut open.items {
            Items::List(items) => items.push(tree.node),
            Items::Map { entries, keys, key } => match key.take() {
                None => *key = Some((tree.node.line, key_text(tree.node)?)),
                Some((line, key)) => match keys.get(&key) {
                    Some(first) => self.faults.push(duplicate(line, &key, *first)),
                    None => {
                        keys.insert(key.clone(), line);
                        entries.push(MapEntry { line, key, value: tree.node });
                    }
                },
            },
        }
        Ok(())
    }

    fn check_depth(&self, below: usize, line: usize) -> Result<(), YamlFault> {
        if self.open.len() + below < MAX_DEPTH {
            return Ok(());
        }
        let problem = format!("nested deeper than {MAX_DEPTH} levels");
        Err(YamlFault::new(line, problem, "check the brackets and the indentation"))
    }

    /// Takes bytes from the budget.
    fn spend(&mut self, bytes: usize, line: usize) -> Result<(), YamlFault> {
        match self.budget.checked_sub(bytes) {
            Some(left) => *self.budget = left,
            None => {
                let limit = MAX_TREE_BYTES >> 20;
                let problem = format!("the file's values take more than {limit} MiB of memory");
                return Err(YamlFault::new(line, problem, "use fewer aliases, or split the file"));
            }
        }
        Ok(())
    }
}

fn check_tag(tag: Option<&Tag>, line: usize) -> Result<(), YamlFault> {
    const KNOWN: [&str; 7] = ["str", "int", "float", "bool", "null", "map", "seq"];
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && KNOWN.contains(&tag.suffix.as_str())) => Err(
            YamlFault::new(line, format!("the tag {tag} is not supported"), "leave the tag out"),
        ),
        _ => Ok(()),
    }
}

/// Returns a key, which must be text. `<<` is refused: taken as text it would lose the merged map
/// without a word.
fn key_text(node: YamlNode) -> Result<String, YamlFault> {
    match node.value {
        YamlValue::Scalar { text, quoted: false } if text == "<<" => Err(YamlFault::new(
            node.line,
            "merge keys (<<) are not supported",
            "write the fields out, or use an alias for the whole value",
        )),
        YamlValue::Scalar { text, .. } => Ok(text),
        YamlValue::Null => Err(YamlFault::new(node.line, "an empty key", "write the field's name")),
        YamlValue::List(_) | YamlValue::Map(_) => {
            let remedy = "write a name before the colon, and text with { or [ in quotes";
            Err(YamlFault::new(node.line, "a key that is a list or a map", remedy))
        }
    }
}

fn duplicate(line: usize, key: &str, first: usize) -> YamlFault {
    let problem = format!("the key {key:?} is written twice; it is on line {first} too");
    YamlFault::new(line, problem, "remove one of them")
}
