//! The modules of a crate and the paths between them, read from its source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;

use crate::tokens::{self, Declared};

/// A module's path from the root of its crate, which is empty.
pub(crate) type ModulePath = Vec<String>;

/// Imports followed for one path: more than any sensible chain of re-exports.
const MAX_IMPORTS: usize = 16;

/// All modules of a crate but those of its tests.
#[derive(Default)]
pub(crate) struct Modules {
    modules: BTreeMap<ModulePath, Module>,
}

/// Paths as they are written, by segments.
#[derive(Default)]
struct Module {
    imports: BTreeMap<String, Vec<String>>,
    paths: Vec<Vec<String>>,
}

/// A path in one module's source that leads into another module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) from: ModulePath,
    pub(crate) to: ModulePath,
    /// As it is written.
    pub(crate) path: String,
}

impl Modules {
    /// Reads the crate whose root is `file`, such as `src/lib.rs`.
    pub(crate) fn read(file: &Path) -> Modules {
        let mut modules = Modules::default();
        let folder = file.parent().unwrap();
        modules.add_file(Vec::new(), file, folder);
        modules
    }

    /// Returns all references to other modules, without those between a module and one inside of it.
    pub(crate) fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        for (from, module) in &self.modules {
            for path in &module.paths {
                let Some(to) = self.resolve(from, path, MAX_IMPORTS) else { continue };
                if !from.starts_with(&to) && !to.starts_with(from) {
                    found.push(Reference { from: from.clone(), to, path: path.join("::") });
                }
            }
        }
        found
    }

    /// `folder` is where the files of its modules are.
    fn add_file(&mut self, path: ModulePath, file: &Path, folder: &Path) {
        let text =
            fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let source: TokenStream =
            text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.add(path, source, file, folder);
    }

    fn add(&mut self, path: ModulePath, source: TokenStream, file: &Path, folder: &Path) {
        let found = tokens::read(source);
        for module in found.modules {
            let mut inner = path.clone();
            inner.push(module.name.clone());
            let inner_folder = folder.join(&module.name);
            match module.declared {
                Declared::Here(source) => self.add(inner, source, file, &inner_folder),
                Declared::Beside => {
                    let file = file_of(folder, &module.name);
                    self.add_file(inner, &file, &inner_folder);
                }
                Declared::At(place) => {
                    let file = file.with_file_name(place);
                    self.add_file(inner, &file, &file.with_extension(""));
                }
            }
        }
        // Two files may stand in for one module, each with a `cfg` of its own.
        let module = self.modules.entry(path).or_default();
        for import in found.imports {
            module.paths.push(import.path.clone());
            module.imports.insert(import.name, import.path);
        }
        module.paths.extend(found.paths);
    }

    /// Finds the module that declares what `path` names, as seen in the module `from`. `None` if
    /// that is in another crate, or no path to an item.
    fn resolve(&self, from: &[String], path: &[String], imports: usize) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.descend(Vec::new(), rest, imports),
            "self" => self.descend(from.to_vec(), rest, imports),
            "super" => {
                let (_, parent) = from.split_last()?;
                if rest.first().is_some_and(|next| next == "super") {
                    return self.resolve(parent, rest, imports);
                }
                self.descend(parent.to_vec(), rest, imports)
            }
            _ if self.modules.contains_key(&child(from, first)) => {
                self.descend(from.to_vec(), path, imports)
            }
            _ => self.follow_import(from, path, imports),
        }
    }

    /// Walks from module to module, and through imports, as far as `path` goes.
    fn descend(&self, at: ModulePath, path: &[String], imports: usize) -> Option<ModulePath> {
        let Some((first, rest)) = path.split_first() else { return Some(at) };
        let inner = child(&at, first);
        if self.modules.contains_key(&inner) {
            return self.descend(inner, rest, imports);
        }
        if self.modules.get(&at).is_some_and(|module| module.imports.contains_key(first)) {
            return self.follow_import(&at, path, imports);
        }
        Some(at)
    }

    /// Replaces the first segment by the path that it was imported from.
    fn follow_import(&self, at: &[String], path: &[String], imports: usize) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let import = self.modules.get(at)?.imports.get(first)?;
        let path = [import, rest].concat();
        self.resolve(at, &path, imports.checked_sub(1)?)
    }
}

fn child(module: &[String], name: &str) -> ModulePath {
    let mut path = module.to_vec();
    path.push(name.to_owned());
    path
}

fn file_of(folder: &Path, module: &str) -> PathBuf {
    let file = folder.join(format!("{module}.rs"));
    if file.exists() { file } else { folder.join(module).join("mod.rs") }
}

#[cfg(test)]
mod tests {
    use ::tests::Directory;

    use super::*;

    /// The references in a crate of this source, as `from -> to`.
    fn references(source: &str) -> Vec<String> {
        let mut modules = Modules::default();
        modules.add(Vec::new(), source.parse().unwrap(), Path::new("lib.rs"), Path::new(""));
        edges(&modules)
    }

    fn edges(modules: &Modules) -> Vec<String> {
        let references = modules.references();
        let edge =
            |found: &Reference| format!("{} -> {}", found.from.join("::"), found.to.join("::"));
        references.iter().map(edge).collect()
    }

    #[test]
    fn a_use_is_a_reference() {
        assert_eq!(references("mod a { use crate::b::B; } mod b {}"), ["a -> b"]);
    }

    #[test]
    fn each_tree_of_a_use_counts() {
        let source = "mod a { use crate::{b::{self, B as C}, c::*, d::inner::{D}, E}; }
            mod b {} mod c {} mod d { mod inner {} }";
        assert_eq!(references(source), ["a -> b", "a -> b", "a -> c", "a -> d::inner"]);
    }

    #[test]
    fn a_path_in_an_expression_or_a_type_is_a_reference() {
        let source =
            "mod a { fn f(b: &crate::b::B) -> Vec<super::c::C> { vec![crate::d::d::<u8>(b)] } }
            mod b {} mod c {} mod d {}";
        assert_eq!(references(source), ["a -> b", "a -> c", "a -> d"]);
    }

    #[test]
    fn super_and_self_lead_to_siblings() {
        let source = "mod a { mod b { use super::super::d::D; use super::c::C; } mod c {}
                use self::b::B; }
            mod d {}";
        assert_eq!(references(source), ["a::b -> d", "a::b -> a::c"]);
    }

    #[test]
    fn a_module_and_what_is_inside_of_it_may_use_one_another() {
        let source = "mod a { mod b { use super::A; use crate::Root; } use b::B; } use a::A;";
        assert!(references(source).is_empty());
    }

    #[test]
    fn a_path_leads_through_an_imported_module() {
        let source = "mod a { mod c { use crate::a; fn f() { a::b::g(); } } mod b {} }";
        assert_eq!(references(source), ["a::c -> a::b"]);
    }

    #[test]
    fn a_re_export_leads_to_the_module_that_declares_the_item() {
        let source = "mod a { use super::Alias; } mod b { pub use inner::B; mod inner {} }
            pub use b::B as Alias;";
        assert_eq!(references(source), ["a -> b::inner"]);
    }

    #[test]
    fn other_crates_are_none_of_its_modules() {
        let source =
            "mod a { use ::b::B; use http::http; fn f() { ::b::f(); http::b::g(); Vec::b(); } }
            mod b {}";
        assert!(references(source).is_empty());
    }

    #[test]
    fn comments_strings_and_bounds_are_no_references() {
        let source = "mod a {
            /// See [`crate::b::B`].
            // use crate::b::B;
            const TEXT: &str = \"crate::b::B\";
            fn f() -> impl Iterator + use<> { T::crate_b }
        }
        mod b {}";
        assert!(references(source).is_empty());
    }

    #[test]
    fn tests_do_not_count() {
        let source = "mod a {
            #[cfg(test)]
            use crate::b::B;
            #[cfg(all(test, feature = \"x\"))]
            #[allow(unused)]
            mod tests { use crate::b::B; }
            #[cfg(any(test, feature = \"x\"))]
            use crate::c::C;
        }
        mod b {} mod c {}
        #[cfg(test)]
        mod tests;";
        assert_eq!(references(source), ["a -> c"]);
    }

    #[test]
    fn modules_are_found_in_their_files() {
        let directory = Directory::new();
        let root = directory.write("lib.rs", "mod a; mod b; mod c; #[path = \"e.rs\"] mod d;");
        directory.write("a.rs", "mod inner;");
        directory.write("a/inner.rs", "use crate::b::B;");
        directory.write("b.rs", "");
        directory.write("c/mod.rs", "use crate::a::A;");
        directory.write("e.rs", "use crate::c::C;");
        assert_eq!(edges(&Modules::read(&root)), ["a::inner -> b", "c -> a", "d -> c"]);
    }
}
