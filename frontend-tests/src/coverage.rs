//! Which rows of the feature list have a case, and why the others have none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::case::{self, Case};

/// The rows, what cases show, and what is argued.
pub struct Coverage {
    rows: BTreeMap<String, String>,
    shown: BTreeMap<String, Vec<String>>,
    argued: BTreeMap<String, String>,
}

impl Coverage {
    /// Reads `rows.toml` and `not-covered.toml` beside the cases.
    pub fn of(cases: &[Case]) -> Self {
        let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for case in cases {
            for row in &case.about.rows {
                shown.entry(row.clone()).or_default().push(case.name.clone());
            }
        }
        Self { rows: table("rows.toml"), shown, argued: table("not-covered.toml") }
    }

    /// The rows that have neither a case nor an argument, with their titles.
    pub fn missing(&self) -> Vec<(&str, &str)> {
        let open = self
            .rows
            .iter()
            .filter(|(row, _)| !self.shown.contains_key(*row) && !self.argued.contains_key(*row));
        open.map(|(row, title)| (row.as_str(), title.as_str())).collect()
    }

    /// Mistakes in the lists themselves: unknown rows, and arguments for rows that have a case.
    pub fn mistakes(&self) -> Vec<String> {
        let known: BTreeSet<&String> = self.rows.keys().collect();
        let strange = self.shown.iter().filter(|(row, _)| !known.contains(row));
        let strange =
            strange.map(|(row, cases)| format!("{row} of {} is not in rows.toml", cases.join(", ")));
        let needless = self.argued.keys().filter(|row| self.shown.contains_key(*row));
        let needless = needless.map(|row| format!("{row} is in not-covered.toml and has a case"));
        let unknown = self.argued.keys().filter(|row| !known.contains(row));
        let unknown = unknown.map(|row| format!("{row} of not-covered.toml is not in rows.toml"));
        strange.chain(needless).chain(unknown).collect()
    }

    /// Whether every row is accounted for.
    pub fn is_complete(&self) -> bool {
        self.missing().is_empty() && self.mistakes().is_empty()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, title) in self.missing() {
            writeln!(f, "{row}  {title}")?;
        }
        self.mistakes().iter().try_for_each(|mistake| writeln!(f, "{mistake}"))?;
        let shown = self.rows.keys().filter(|row| self.shown.contains_key(*row)).count();
        let (missing, argued) = (self.missing().len(), self.argued.len());
        write!(f, "{} rows: {shown} with a case, {argued} argued, {missing} missing", self.rows.len())
    }
}

fn table(name: &str) -> BTreeMap<String, String> {
    let path = case::directory().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
