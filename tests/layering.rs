//! Holds the imports of `src/` against the picture in `src/lib.rs`: strictly down, and the stages never sideways.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each part may import. `tests` of a part are held to the same.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("metrics", &[]),
    ("rtp", &["ids", "metrics"]),
    ("peer", &["rtp", "ids", "metrics"]),
    ("forward", &["rtp", "ids", "metrics"]),
    ("egress", &["rtp", "ids", "metrics"]),
    ("record", &["rtp", "ids", "metrics"]),
    ("engine", &["peer", "forward", "egress", "rtp", "ids", "metrics"]),
    ("room", &["engine", "peer", "forward", "egress", "rtp", "ids", "metrics"]),
    ("net", &["engine", "peer", "forward", "egress", "rtp", "ids", "metrics"]),
    ("recordings", &["net", "room", "record", "engine", "rtp", "ids", "metrics"]),
    (
        "signal",
        &["recordings", "record", "net", "room", "engine", "peer", "forward", "egress", "rtp", "ids", "metrics"],
    ),
    (
        "config",
        &[
            "signal",
            "recordings",
            "record",
            "net",
            "room",
            "engine",
            "peer",
            "forward",
            "egress",
            "rtp",
            "ids",
            "metrics",
        ],
    ),
    (
        "server",
        &[
            "config",
            "signal",
            "recordings",
            "record",
            "net",
            "room",
            "engine",
            "peer",
            "forward",
            "egress",
            "rtp",
            "ids",
            "metrics",
        ],
    ),
];

/// Words that only some parts, or files of them, may use: I/O, clocks, and the types of the WebRTC crates.
const RESERVED: &[(&str, &[&str])] = &[
    ("tokio::", &["net", "recordings", "signal", "server"]),
    ("axum::", &["signal", "server"]),
    ("std::net::UdpSocket", &["net", "server"]),
    ("std::fs", &["config", "server", "signal", "recordings", "record/disk"]),
    ("rtc::", &["peer", "rtp"]),
    ("rtc_crypto::", &["peer", "rtp"]),
    ("aws_lc_rs::", &["peer", "record/disk", "recordings", "signal"]),
];

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    rust_files(&src, &mut files);
    assert!(files.len() > 20, "the sources are not where this test looks for them");
    files
        .into_iter()
        .filter_map(|path| {
            let relative = path.strip_prefix(&src).unwrap().to_path_buf();
            let first = relative.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            (first != "lib" && first != "main").then_some((first, relative, text))
        })
        .collect()
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// Every part that a line of code names by `crate::part` or `crate::{part, …}`.
fn imports(line: &str) -> Vec<String> {
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    code(line)
        .split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => group.split(',').map(|part| word(part.trim())).collect(),
            None => vec![word(rest)],
        })
        .collect()
}

#[test]
fn imports_go_down() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = vec![];
    for (part, path, text) in sources() {
        let Some(allowed) = allowed.get(part.as_str()) else {
            wrong.push(format!("{}: `{part}` is not in the picture", path.display()));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for import in imports(line) {
                let known = MAY_IMPORT.iter().any(|(name, _)| *name == import);
                if known && import != part && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{}:{}: {part} imports {import}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the layers:\n{}", wrong.join("\n"));
}

#[test]
fn io_clocks_and_foreign_types_stay_where_they_belong() {
    let mut wrong = vec![];
    for (part, path, text) in sources() {
        // Tests may use the foreign crates as their oracle.
        let production = text.split("#[cfg(test)]").next().unwrap_or("");
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        for (number, line) in production.lines().enumerate() {
            for (word, parts) in RESERVED {
                let used = code(line)
                    .match_indices(word)
                    .any(|(at, _)| !code(line)[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
                let file = path.with_extension("");
                if used && !parts.iter().any(|allowed| *allowed == part || file == Path::new(allowed)) {
                    wrong.push(format!("{}:{}: {part} names {word}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "words out of place:\n{}", wrong.join("\n"));
}

#[test]
fn this_test_sees_what_it_should() {
    assert_eq!(imports("use crate::{peer::Path, rtp};"), ["peer", "rtp"]);
    assert_eq!(imports("    let x = crate::net::spawn(); // crate::signal"), ["net"]);
}
