//! Modules, imports and paths in one source text. Comments and strings don't count, nor does what is
//! compiled for tests alone.

use std::iter::Peekable;
use std::vec::IntoIter;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Everything that a source text says about modules.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) modules: Vec<Declaration>,
    pub(crate) imports: Vec<Import>,
    /// Paths of two or more segments outside of `use`, such as `crate::text::size`.
    pub(crate) paths: Vec<Vec<String>>,
}

/// `mod name`.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) name: String,
    pub(crate) declared: Declared,
}

/// The place of a module's source.
#[derive(Debug)]
pub(crate) enum Declared {
    /// In braces.
    Here(TokenStream),
    /// In a file of its own name.
    Beside,
    /// In the file that `#[path]` names.
    At(String),
}

/// One name of a `use`. A glob is named `*`.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
}

/// Reads the source of a module, down to the braces of its inner modules.
pub(crate) fn read(source: TokenStream) -> Found {
    let mut found = Found::default();
    Reader::new(source).read(&mut found);
    found
}

struct Reader {
    tokens: Peekable<IntoIter<TokenTree>>,
}

impl Reader {
    fn new(source: TokenStream) -> Reader {
        Reader { tokens: source.into_iter().collect::<Vec<_>>().into_iter().peekable() }
    }

    fn read(mut self, found: &mut Found) {
        let mut file = None;
        while let Some(token) = self.tokens.next() {
            match token {
                TokenTree::Punct(sign) if sign.as_char() == '#' => match self.attribute() {
                    Attribute::Test => self.skip_item(),
                    Attribute::Path(place) => file = Some(place),
                    Attribute::Other => {}
                },
                TokenTree::Ident(word) if word == "mod" => self.module(file.take(), found),
                TokenTree::Ident(word) if word == "use" && !self.next_is('<') => {
                    self.import(&[], &mut found.imports);
                }
                TokenTree::Ident(word) => self.path(word.to_string(), found),
                // Starts at another crate, or at a type in angle brackets.
                TokenTree::Punct(sign) if sign.as_char() == ':' && self.separator_ends(&sign) => {
                    self.segments();
                }
                TokenTree::Group(group) => Reader::new(group.stream()).read(found),
                _ => {}
            }
        }
    }

    fn attribute(&mut self) -> Attribute {
        self.skip('!');
        let Some(TokenTree::Group(group)) = self.tokens.next_if(is_group) else {
            return Attribute::Other;
        };
        // Compared as text, since spaces between tokens are the only ambiguity.
        let text: String = group.stream().to_string().split_whitespace().collect();
        if text == "cfg(test)" || text.starts_with("cfg(all(test,") {
            return Attribute::Test;
        }
        match text.strip_prefix("path=\"") {
            Some(place) => Attribute::Path(place.trim_end_matches('"').to_owned()),
            None => Attribute::Other,
        }
    }

    /// Reads on behind the braces or the semicolon that end an item.
    fn skip_item(&mut self) {
        for token in self.tokens.by_ref() {
            match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
                TokenTree::Punct(sign) if sign.as_char() == ';' => return,
                _ => {}
            }
        }
    }

    fn module(&mut self, file: Option<String>, found: &mut Found) {
        let Some(TokenTree::Ident(name)) = self.tokens.next() else { return };
        let declared = match (self.tokens.next(), file) {
            (Some(TokenTree::Group(group)), _) => Declared::Here(group.stream()),
            (_, Some(file)) => Declared::At(file),
            (_, None) => Declared::Beside,
        };
        found.modules.push(Declaration { name: name.to_string(), declared });
    }

    /// Reads one tree of a `use`, up to the sign that ends it.
    fn import(&mut self, prefix: &[String], imports: &mut Vec<Import>) {
        if self.separator() {
            // `use ::name`: another crate.
            self.skip_item();
            return;
        }
        let mut path = prefix.to_vec();
        let mut name = None;
        while let Some(token) = self.tokens.next() {
            match token {
                TokenTree::Ident(word) if word == "as" => {
                    name = self.tokens.next().map(|alias| alias.to_string());
                }
                // `{self}` names what is before the braces.
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Punct(sign) if sign.as_char() == '*' => name = Some("*".to_owned()),
                TokenTree::Punct(sign) if sign.as_char() == ':' => {}
                TokenTree::Group(group) => {
                    let mut trees = Reader::new(group.stream());
                    while trees.tokens.peek().is_some() {
                        trees.import(&path, imports);
                    }
                    self.tokens.next();
                    return;
                }
                _ => break,
            }
        }
        let name = name.or_else(|| path.last().cloned());
        imports.extend(name.map(|name| Import { name, path }));
    }

    fn path(&mut self, first: String, found: &mut Found) {
        let mut path = vec![first];
        if self.separator() {
            path.extend(self.segments());
        }
        if path.len() > 1 {
            found.paths.push(path);
        }
    }

    /// Reads `a::b::c`.
    fn segments(&mut self) -> Vec<String> {
        let mut segments = Vec::new();
        while let Some(word) = self.tokens.next_if(|token| matches!(token, TokenTree::Ident(_))) {
            segments.push(word.to_string());
            if !self.separator() {
                break;
            }
        }
        segments
    }

    /// Takes a `::`, if that is next.
    fn separator(&mut self) -> bool {
        let first = self.tokens.next_if(|token| is_sign(token, ':'));
        matches!(first, Some(TokenTree::Punct(sign)) if self.separator_ends(&sign))
    }

    /// Takes the second half of a `::`.
    fn separator_ends(&mut self, first: &proc_macro2::Punct) -> bool {
        first.spacing() == Spacing::Joint && self.skip(':')
    }

    fn skip(&mut self, sign: char) -> bool {
        self.tokens.next_if(|token| is_sign(token, sign)).is_some()
    }

    fn next_is(&mut self, sign: char) -> bool {
        self.tokens.peek().is_some_and(|token| is_sign(token, sign))
    }
}

enum Attribute {
    /// `#[cfg(test)]`, or the like.
    Test,
    /// `#[path = "..."]`.
    Path(String),
    Other,
}

fn is_group(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(_))
}

fn is_sign(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == sign)
}
