//! What dbtriage costs beside what others cost, on the same load and in the same run:
//!
//! ```sh
//! cargo bench --bench side_by_side                     # every load, three times
//! cargo bench --bench side_by_side -- --load 500 --times 1
//! ```
//!
//! The others are those that are in the search path, or in the folders that `DBTRIAGE_PEERS` names. The last line of the
//! output is the path of the same figures as JSON.
#![allow(clippy::print_stdout, reason = "what was measured is the result")]

mod budgets;
mod crowd;
mod frugal;
mod process;
mod programs;
mod reference;
mod run;
mod table;
mod terminal;
mod wire;

use anyhow::{Context as _, Result, bail};

use crate::crowd::{Crowd, SIZES, Size};
use crate::programs::Program;
use crate::run::{Effort, measure};
use crate::table::Table;

/// What was asked for.
struct Asked {
    loads: Vec<Size>,
    times: usize,
    effort: Effort,
    alone: bool,
    hold: bool,
}

impl Asked {
    fn of_the_command_line() -> Result<Self> {
        let mut asked = Self {
            loads: SIZES.to_vec(),
            times: 3,
            effort: Effort { refreshes: 10, keys: 30 },
            alone: false,
            hold: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--load" => {
                    let name = value()?;
                    asked.loads = SIZES.into_iter().filter(|size| size.name == name).collect();
                    if asked.loads.is_empty() {
                        bail!("there is no load {name}: one of {:?}", SIZES.map(|size| size.name));
                    }
                }
                "--times" => asked.times = value()?.parse().context("--times is a number")?,
                "--refreshes" => {
                    asked.effort.refreshes = value()?.parse().context("--refreshes is a number")?;
                }
                "--alone" => asked.alone = true,
                "--hold" => asked.hold = true,
                // Cargo says so to every bench.
                "--bench" => {}
                _ => bail!("unknown: {word}; --load, --times, --refreshes, --alone and --hold are known"),
            }
        }
        Ok(asked)
    }
}

/// Keeps a load until a line comes in, for whoever wants to look at it with tools of their own.
fn hold(crowd: &Crowd) -> Result<()> {
    let redis = crowd.lab.redis().context("the lab has no Redis")?.url();
    println!("{} --redis {redis}; Enter ends it", crowd.lab.primary().uri("watcher", "shop"));
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn main() -> Result<()> {
    let asked = Asked::of_the_command_line()?;
    let mut programs = vec![Program::ours(), Program::ours_at_five_seconds()];
    if !asked.alone {
        programs.extend(Program::others());
    }
    let mut table = Table::default();
    for size in &asked.loads {
        let crowd = Crowd::start(*size).with_context(|| format!("could not start the load {}", size.name))?;
        if asked.hold {
            hold(&crowd)?;
            continue;
        }
        for time in 1..=asked.times {
            for program in &programs {
                println!("load {}, {} of {}: {}", size.name, time, asked.times, program.name);
                let figures = measure(&crowd.lab, program, asked.effort)
                    .with_context(|| format!("could not measure {}", program.name))?;
                table.add(size.name, program.name, figures);
            }
        }
    }
    table.print();
    let screens: Vec<&'static str> =
        programs.iter().filter(|it| it.is_screen && !it.is_ours).map(|it| it.name).collect();
    let is_met = budgets::print(&table, Program::ours().name, &screens, asked.effort.refreshes);
    println!("\n{}", table.keep()?.display());
    if !is_met {
        bail!("a budget is not met");
    }
    Ok(())
}
