//! The figures of all runs, as a table for each load and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::run::{Figures, median};

/// Every run of each program on each load.
#[derive(Debug, Default)]
pub(crate) struct Table {
    runs: BTreeMap<(&'static str, &'static str), Vec<Figures>>,
    loads: Vec<&'static str>,
    programs: Vec<&'static str>,
}

impl Table {
    pub(crate) fn add(&mut self, load: &'static str, program: &'static str, figures: Figures) {
        if !self.loads.contains(&load) {
            self.loads.push(load);
        }
        if !self.programs.contains(&program) {
            self.programs.push(program);
        }
        self.runs.entry((load, program)).or_default().push(figures);
    }

    /// The median of a figure and how far it lay apart.
    fn value(&self, load: &'static str, program: &'static str, name: &str) -> Option<(f64, f64, f64)> {
        let runs = self.runs.get(&(load, program))?;
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run.0.get(name).copied()).collect();
        let middle = median(&mut values)?;
        Some((middle, *values.first()?, *values.last()?))
    }

    /// The median of a figure.
    pub(crate) fn median(&self, load: &str, program: &str, name: &str) -> Option<f64> {
        let runs =
            self.runs.iter().find(|((of_load, of_program), _)| *of_load == load && *of_program == program);
        let mut values: Vec<f64> = runs?.1.iter().filter_map(|run| run.0.get(name).copied()).collect();
        median(&mut values)
    }

    pub(crate) fn print(&self) {
        let names: BTreeSet<&'static str> =
            self.runs.values().flatten().flat_map(|run| run.0.keys().copied()).collect();
        for load in &self.loads {
            println!("\n## Load {load}\n");
            println!("| figure | {} |", self.programs.join(" | "));
            println!("|---|{}", "---|".repeat(self.programs.len()));
            for name in &names {
                let cell = |program: &&'static str| match self.value(load, program, name) {
                    Some((middle, low, high)) => {
                        format!("{} ({}..{})", short(middle), short(low), short(high))
                    }
                    None => "-".to_owned(),
                };
                let cells: Vec<String> = self.programs.iter().map(cell).collect();
                println!("| {name} | {} |", cells.join(" | "));
            }
        }
    }

    /// Writes all runs into a file of the target folder.
    pub(crate) fn keep(&self) -> Result<PathBuf> {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("side_by_side.json");
        let runs: Vec<_> = self.runs.iter().map(|((load, program), runs)| (load, program, runs)).collect();
        let json = serde_json::to_string_pretty(&runs).context("could not write the figures as JSON")?;
        std::fs::write(&path, json).with_context(|| format!("could not write {}", path.display()))?;
        Ok(path)
    }
}

/// Three digits are enough.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
