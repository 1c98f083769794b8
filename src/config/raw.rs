//! What was given, and where: flags over the environment over the file.
use super::settings::{SETTINGS, Setting, Shape};
use clap::ArgMatches;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A mistake in the configuration, and where it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub place: String,
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Flag(&'static str),
    Variable(String),
    File(PathBuf, String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Flag(name) => write!(f, "--{name}"),
            Place::Variable(name) => f.write_str(name),
            Place::File(path, key) => write!(f, "{}: {key}", path.display()),
        }
    }
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    /// Only from the file.
    Table(toml::Table),
}

/// The values of one setting, all from one place.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub place: Place,
    pub values: Vec<Value>,
}

/// The values that count, by the name of their setting.
pub(super) type Raw = BTreeMap<&'static str, Given>;

/// Gathers what was given. `env`: the environment; `file`: reads a file.
pub(super) fn gather(
    matches: &ArgMatches,
    env: &BTreeMap<String, String>,
    file: &dyn Fn(&Path) -> std::io::Result<String>,
    mistakes: &mut Vec<Mistake>,
) -> Raw {
    let mut raw = match config_file(matches, env, mistakes) {
        Some((place, path)) => from_file(&place, &path, file, mistakes),
        None => Raw::new(),
    };
    raw.extend(SETTINGS.iter().filter_map(|setting| Some((setting.name, from_env(setting, env)?))));
    raw.extend(SETTINGS.iter().filter_map(|setting| Some((setting.name, from_flags(setting, matches, mistakes)?))));
    raw
}

/// Variables that look like a setting's name, misspelt.
pub(super) fn doubtful_variables(env: &BTreeMap<String, String>) -> Vec<String> {
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).chain(["EXEDRA_CONFIG".to_owned()]).collect();
    let unknown = env.keys().filter(|name| name.starts_with("EXEDRA_") && !known.contains(name));
    // Others may own variables of this prefix: Kubernetes makes EXEDRA_SERVICE_HOST of a service's name.
    unknown
        .filter_map(|name| Some(format!("{name} is unknown and ignored; {} is meant?", nearest(name, &known)?)))
        .collect()
}

fn config_file(
    matches: &ArgMatches,
    env: &BTreeMap<String, String>,
    mistakes: &mut Vec<Mistake>,
) -> Option<(Place, PathBuf)> {
    let mut flags = matches.get_many::<String>("config").into_iter().flatten();
    if let Some(path) = flags.next() {
        if flags.next().is_some() {
            mistakes.push(Mistake { place: "--config".into(), message: "is given more than once".into() });
        }
        return Some((Place::Flag("config"), path.into()));
    }
    let path = env.get("EXEDRA_CONFIG").filter(|path| !path.is_empty())?;
    Some((Place::Variable("EXEDRA_CONFIG".into()), path.into()))
}

fn from_flags(setting: &Setting, matches: &ArgMatches, mistakes: &mut Vec<Mistake>) -> Option<Given> {
    let place = Place::Flag(setting.name);
    if setting.shape == Shape::Switch {
        return matches.get_flag(setting.name).then(|| Given { place, values: vec![Value::Text("true".into())] });
    }
    let values: Vec<Value> = matches.get_many::<String>(setting.name)?.cloned().map(Value::Text).collect();
    if values.len() > 1 && matches!(setting.shape, Shape::One(_)) {
        mistakes.push(Mistake { place: place.to_string(), message: "is given more than once".into() });
    }
    Some(Given { place, values })
}

/// An empty variable counts as not set.
fn from_env(setting: &Setting, env: &BTreeMap<String, String>) -> Option<Given> {
    let text = env.get(&setting.variable()).filter(|text| !text.is_empty())?;
    let values = match setting.shape {
        Shape::Many(_) => text.split(',').map(|v| Value::Text(v.trim().to_owned())).collect(),
        _ => vec![Value::Text(text.clone())],
    };
    Some(Given { place: Place::Variable(setting.variable()), values })
}

fn from_file(
    place: &Place,
    path: &Path,
    read: &dyn Fn(&Path) -> std::io::Result<String>,
    mistakes: &mut Vec<Mistake>,
) -> Raw {
    let mut wrong = |place: String, message: String| mistakes.push(Mistake { place, message });
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => {
            wrong(place.to_string(), format!("{} cannot be read: {error}", path.display()));
            return Raw::new();
        }
    };
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1);
            wrong(format!("{}, line {line}", path.display()), error.message().to_owned());
            return Raw::new();
        }
    };
    let mut raw = Raw::new();
    for (key, value) in table {
        let place = Place::File(path.to_owned(), key.clone());
        let Some(setting) = SETTINGS.iter().find(|s| s.key() == key) else {
            wrong(place.to_string(), unknown_key(&key));
            continue;
        };
        match values(setting, value) {
            Ok(values) => drop(raw.insert(setting.name, Given { place, values })),
            Err(message) => wrong(place.to_string(), message),
        }
    }
    raw
}

fn unknown_key(key: &str) -> String {
    let known: Vec<String> = SETTINGS.iter().map(Setting::key).collect();
    match nearest(key, &known) {
        Some(near) => format!("there is no such setting; {near} is meant?"),
        None => "there is no such setting (exedra --help lists them all)".into(),
    }
}

/// The values of a key in the file.
fn values(setting: &Setting, value: toml::Value) -> Result<Vec<Value>, String> {
    match (value, setting.shape) {
        (toml::Value::Array(list), Shape::Many(_)) => list.into_iter().map(scalar).collect(),
        (toml::Value::Array(_), _) => Err("takes one value, not a list".into()),
        (value, _) => Ok(vec![scalar(value)?]),
    }
}

fn scalar(value: toml::Value) -> Result<Value, String> {
    match value {
        toml::Value::String(text) => Ok(Value::Text(text)),
        toml::Value::Integer(number) => Ok(Value::Text(number.to_string())),
        toml::Value::Boolean(on) => Ok(Value::Text(on.to_string())),
        toml::Value::Table(table) => Ok(Value::Table(table)),
        other => Err(format!("cannot be {}", other.type_str())),
    }
}

/// The known name that is at most a third of its length away from this one.
pub(super) fn nearest<'k>(name: &str, known: &'k [String]) -> Option<&'k str> {
    let (distance, near) = known.iter().map(|k| (edits(name, k), k)).min()?;
    (distance * 3 <= near.len()).then_some(near)
}

/// Levenshtein's distance, in characters. Two rows of the table are enough.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, n) in
            [("", "", 0), ("udp", "udp", 0), ("upd", "udp", 2), ("max_room", "max_rooms", 1), ("abc", "", 3)]
        {
            assert_eq!(edits(a, b), n, "{a} {b}");
        }
    }
}
