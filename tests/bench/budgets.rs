//! What it may cost: each budget a count, or a ratio to what else was measured in the same run.

use crate::table::Table;

/// What a program of ours is compared with.
#[derive(Debug, Clone, Copy)]
enum Against {
    /// Nothing: a count.
    Nothing,
    /// Another figure of the same program.
    Own(&'static str),
    /// The least of the full-screen programs beside it.
    LeastScreen,
    /// The same figure of another program.
    Other(&'static str),
}

/// A budget: the figure, what it is compared with, and the most for each load, in the order of the loads.
struct Budget {
    /// The program that it is of; `None`: ours, as it is started.
    program: Option<&'static str>,
    figure: &'static str,
    against: Against,
    /// The most, as a multiple of what it is compared with.
    most: [f64; 4],
    /// And so much more.
    more: f64,
}

const LOADS: [&str; 4] = ["10", "500", "2000", "statements"];

const BUDGETS: [Budget; 11] = [
    Budget {
        program: None,
        figure: "round trips per refresh",
        against: Against::Nothing,
        most: [1.0, 1.0, 2.0, 1.0],
        more: 0.0,
    },
    Budget {
        program: None,
        figure: "server ms per refresh",
        against: Against::Own("cheapest server ms per refresh"),
        most: [1.3; 4],
        more: 0.0,
    },
    Budget {
        program: None,
        figure: "bytes per refresh",
        against: Against::Own("fewest bytes per refresh"),
        most: [1.5; 4],
        more: 48.0,
    },
    Budget {
        program: None,
        figure: "CPU ms per refresh",
        against: Against::LeastScreen,
        most: [1.0, 0.3, 0.2, f64::INFINITY],
        more: 0.0,
    },
    Budget {
        program: None,
        figure: "CPU ms per refresh",
        against: Against::Other("pgcenter statements"),
        most: [f64::INFINITY, f64::INFINITY, f64::INFINITY, 0.05],
        more: 0.0,
    },
    // Per second: what is done every ten seconds does not become less.
    Budget {
        program: Some("dbtriage at 5 s"),
        figure: "CPU ms per refresh",
        against: Against::Other("dbtriage"),
        most: [0.35; 4],
        more: 0.0,
    },
    Budget {
        program: None,
        figure: "first screen ms",
        against: Against::LeastScreen,
        most: [0.6; 4],
        more: 0.0,
    },
    Budget { program: None, figure: "key ms", against: Against::Nothing, most: [2.0; 4], more: 0.0 },
    Budget { program: None, figure: "key p95 ms", against: Against::Nothing, most: [5.0; 4], more: 0.0 },
    Budget { program: None, figure: "stopped: key ms", against: Against::Nothing, most: [2.0; 4], more: 0.0 },
    Budget {
        program: None,
        figure: "stopped: key p95 ms",
        against: Against::Nothing,
        most: [5.0; 4],
        more: 0.0,
    },
];

/// Of what is measured over a shorter time memory says little.
const MEMORY: Budget = Budget {
    program: None,
    figure: "peak memory MB",
    against: Against::Nothing,
    most: [24.0, 48.0, 96.0, 48.0],
    more: 0.0,
};
/// Refreshes of ten minutes.
const TEN_MINUTES: u32 = 600;

/// Prints each budget and how it is met; false where one is not.
pub(crate) fn print(table: &Table, ours: &str, screens: &[&'static str], refreshes: u32) -> bool {
    let mut all_met = true;
    println!("\n## Budgets\n\n| figure | {} |\n|---|---|---|---|---|", LOADS.join(" | "));
    for budget in BUDGETS.iter().chain((TEN_MINUTES <= refreshes).then_some(&MEMORY)) {
        let mut cells = Vec::new();
        for (load, most) in LOADS.iter().zip(budget.most) {
            let Some(value) = table.median(load, budget.program.unwrap_or(ours), budget.figure) else {
                cells.push("-".to_owned());
                continue;
            };
            let reference = match budget.against {
                Against::Nothing => Some(1.0),
                Against::Own(figure) => table.median(load, ours, figure),
                Against::Other(program) => table.median(load, program, budget.figure),
                Against::LeastScreen => screens
                    .iter()
                    .filter_map(|name| table.median(load, name, budget.figure))
                    .min_by(f64::total_cmp),
            };
            if most.is_infinite() {
                cells.push("-".to_owned());
                continue;
            }
            let Some(reference) = reference else {
                cells.push(format!("{value:.2}, nothing to compare with"));
                continue;
            };
            let limit = most * reference + budget.more;
            let is_met = value <= limit;
            all_met &= is_met;
            let mark = if is_met { "" } else { " **over**" };
            cells.push(format!("{value:.2} of {limit:.2}{mark}"));
        }
        let of = budget.program.map_or_else(String::new, |program| format!("{program}: "));
        let against = match budget.against {
            Against::Nothing => String::new(),
            Against::Own(figure) => format!(", against {figure}"),
            Against::LeastScreen => ", against the least beside it".to_owned(),
            Against::Other(program) => format!(", against {program}"),
        };
        println!("| {of}{}{against} | {} |", budget.figure, cells.join(" | "));
    }
    all_met
}
