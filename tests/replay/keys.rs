//! Keys that lead through the time of a recording.

use dbtriage_lab::terminal::{PATIENCE, Tty, rows, until};

use super::{INCIDENT, PROGRAM};

const SMALL: (u16, u16) = (80, 24);

/// Opens the recording; it plays fast to its end.
fn at_the_end(size: (u16, u16)) -> Tty {
    let file = INCIDENT.file();
    let mut tty = Tty::start(PROGRAM, size, &["replay", "--speed", "64", file.to_str().unwrap()]);
    tty.wait_for_text("end of the recording");
    tty
}

fn quit(tty: Tty) {
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

/// What stands in the first line between a mark and the next blank.
fn shown_time(tty: &Tty) -> String {
    let first = rows_of(tty)[0].clone();
    let at = first.split("PAUSED at ").nth(1).unwrap_or_else(|| panic!("{first}"));
    at.split(',').next().unwrap().to_owned()
}

fn rows_of(tty: &Tty) -> Vec<String> {
    tty.look(rows)
}

#[test]
fn steps_lead_back_to_the_pile_up_and_nothing_can_be_done_there() {
    let mut tty = at_the_end(SMALL);
    tty.wait_for("nothing to be blocked", PATIENCE, |screen| rows(screen)[1].contains("blk 0"));
    tty.keys("N");
    tty.wait_for_text("‖ PAUSED at");
    // Back through the events, to where it began.
    until("the first event", PATIENCE, || {
        tty.keys("N");
        tty.look(|screen| rows(screen).iter().any(|row| row.contains("no event before")))
    });
    tty.wait_for("the pile-up", PATIENCE, |screen| rows(screen)[1].contains("blk ▲36"));
    tty.keys("2");
    tty.keys("K");
    tty.wait_for_text("terminate: this is a recording");
    let early = shown_time(&tty);
    tty.keys("]");
    tty.wait_for("the next sample", PATIENCE, |screen| !rows(screen)[0].contains(&early));
    tty.keys("0");
    tty.wait_for_text("end of the recording");
    quit(tty);
}

#[test]
fn a_time_is_gone_to_and_what_is_no_time_is_told() {
    let mut tty = at_the_end(SMALL);
    tty.keys("T");
    tty.wait_for_text("go to");
    tty.keys("soon\r");
    tty.wait_for_text("\"soon\" is no time: write 16:15, 16:15:30, -5m or +30s");
    tty.keys("T");
    tty.wait_for_text("go to");
    tty.keys("-3s\r");
    tty.wait_for_text("‖ PAUSED at");
    let three_before = shown_time(&tty);
    tty.keys("[");
    tty.wait_for("the sample before", PATIENCE, |screen| !rows(screen)[0].contains(&three_before));
    // Before everything that can be stepped through: it is gone through again, and stands where it begins.
    tty.keys("T");
    tty.wait_for_text("go to");
    tty.keys("-1h\r");
    tty.wait_for("the beginning", PATIENCE, |screen| {
        rows(screen)[0].contains("‖ replay") && rows(screen)[1].contains("conn 40/97")
    });
    tty.keys("p");
    tty.wait_for_text("end of the recording");
    quit(tty);
}

#[test]
fn a_recording_stands_and_gives_one_sample_after_the_other() {
    let file = INCIDENT.file();
    let mut tty = Tty::start(PROGRAM, SMALL, &["replay", file.to_str().unwrap()]);
    tty.wait_for_text("▶ replay 1x");
    tty.wait_for("the pile-up", PATIENCE, |screen| rows(screen)[1].contains("blk ▲36"));
    tty.keys("p");
    tty.wait_for_text("‖ replay");
    let clock = |row: &str| row.rsplit("  ").next().unwrap().trim().to_owned();
    let stood = clock(&rows_of(&tty)[0]);
    tty.keys("]");
    tty.wait_for("one sample more", PATIENCE, |screen| clock(&rows(screen)[0]) != stood);
    tty.keys(">>");
    tty.wait_for_text("4 times as fast as it was");
    tty.keys("p");
    tty.wait_for_text("▶ replay 4x");
    quit(tty);
}

#[test]
fn another_speed_is_refused_and_what_is_no_recording_says_so() {
    let run = |arguments: &[&str]| {
        let done = std::process::Command::new(PROGRAM).args(arguments).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = run(&["timeline", "/dev/null"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("/dev/null: no recording of dbtriage, or nothing whole in it"), "{said}");
    let (code, said) = run(&["timeline", "/nowhere/at.all"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("cannot read /nowhere/at.all: No such file or directory"), "{said}");
    let (code, said) = run(&["replay", "--speed", "65", "x"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("65"), "{said}");
}
