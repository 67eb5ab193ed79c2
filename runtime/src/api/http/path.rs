//! Paths of requests, and the patterns of routes that they match.
//!
//! A pattern is a path whose segments may be `{name}`, any segment that isn't empty, or at the end
//! `{*name}`, any rest that isn't empty.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// Tells whether `path` matches `pattern`.
pub(super) fn is_match(pattern: &str, path: &str) -> bool {
    captures(pattern, path, |_, _| {})
}

/// Finds the part of `path` that a name of `pattern` stands for, escaped as it came.
pub(super) fn captured<'a>(pattern: &str, path: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    let is_match = captures(pattern, path, |known, part| {
        if known == name {
            found = Some(part);
        }
    });
    found.filter(|_| is_match)
}

/// Passes each name of `pattern` to `found` with its part of `path`. Returns false if they don't match.
fn captures<'p, 'a>(
    pattern: &'p str,
    path: &'a str,
    mut found: impl FnMut(&'p str, &'a str),
) -> bool {
    let mut rest = Some(path);
    for expected in pattern.split('/') {
        let Some(left) = rest else { return false };
        let name = expected.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
        if let Some(name) = name.and_then(|name| name.strip_prefix('*')) {
            found(name, left);
            return !left.is_empty();
        }
        let (segment, after) = match left.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (left, None),
        };
        match name {
            Some(name) if !segment.is_empty() => found(name, segment),
            None if segment == expected => {}
            _ => return false,
        }
        rest = after;
    }
    rest.is_none()
}

/// Returns the same address without double slashes, and with spaces for `+` in the path, as Go reads
/// it; `None` if it is plain already.
pub(super) fn plain(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && !path.contains('+') {
        return None;
    }
    let mut cleaned = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '/' if cleaned.ends_with('/') => {}
            '+' => cleaned.push_str("%20"),
            c => cleaned.push(c),
        }
    }
    with_path(uri, cleaned)
}

/// Returns the same address without the slash at the path's end; `None` if there is none.
pub(super) fn without_last_slash(uri: &Uri) -> Option<Uri> {
    with_path(uri, uri.path().strip_suffix('/')?.to_owned())
}

fn with_path(uri: &Uri, mut path: String) -> Option<Uri> {
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that matches a pattern, and what its names stand for.
    struct Match {
        pattern: &'static str,
        path: &'static str,
        names: &'static [(&'static str, &'static str)],
    }

    #[test]
    fn names_stand_for_segments_and_rests() {
        for Match { pattern, path, names } in [
            Match { pattern: "/a", path: "/a", names: &[] },
            Match { pattern: "/a/{x}", path: "/a/b", names: &[("x", "b")] },
            Match { pattern: "/a/{x}/", path: "/a/b/", names: &[("x", "b")] },
            Match { pattern: "/{x}/b/{y}", path: "/%2F/b/c", names: &[("x", "%2F"), ("y", "c")] },
            Match { pattern: "/a/{*x}", path: "/a/b", names: &[("x", "b")] },
            Match { pattern: "/{x}/{*y}", path: "/a/b//c/", names: &[("x", "a"), ("y", "b//c/")] },
        ] {
            assert!(is_match(pattern, path), "{pattern} {path}");
            for (name, part) in names {
                assert_eq!(captured(pattern, path, name), Some(*part), "{pattern} {path}");
            }
            assert_eq!(captured(pattern, path, "other"), None);
        }
    }

    #[test]
    fn a_path_of_another_form_is_no_match() {
        for (pattern, path) in [
            ("/a", "/b"),
            ("/a", "/a/"),
            ("/a", "/a/b"),
            ("/a", ""),
            ("/a/{x}", "/a"),
            ("/a/{x}", "/a/"),
            ("/a/{x}", "/a/b/"),
            ("/a/{x}", "/a/b/c"),
            ("/a/{x}/", "/a/b"),
            ("/a/{x}/", "/a//"),
            ("/a/{*x}", "/a"),
            ("/a/{*x}", "/a/"),
        ] {
            assert!(!is_match(pattern, path), "{pattern} {path}");
            assert_eq!(captured(pattern, path, "x"), None, "{pattern} {path}");
        }
    }
}
