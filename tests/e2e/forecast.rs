//! Time left: programs leak toward the limit of their control group until the kernel kills them, and what
//! was forecast on the way is compared with when that was.

use std::time::Instant;

use leaktrace_tests::{MemoryGroup, PATIENCE, Program, Report, Session, Target, Tracer};

const RUNS: u64 = 10;
/// Runs side by side: the programs sleep most of the time.
const AT_ONCE: u64 = 5;
/// Runs whose forecast has to hold.
const COVERED: usize = 9;

const LIMIT_BYTES: u64 = 48 << 20;

/// Part of the limit that is used when the forecast counts.
const USED: f64 = 0.5;

/// A forecast and when it was read.
struct Forecast {
    at: Instant,
    seconds: [f64; 2],
}

/// One run: the forecast, when the program was gone, and all that was said.
struct Run {
    forecast: Forecast,
    dead: Instant,
    session: Session,
}

fn run(number: u64) -> Run {
    let group = MemoryGroup::new(LIMIT_BYTES);
    // From 16 to 30 seconds for the whole way.
    let rate = LIMIT_BYTES / (16 + number * 14 / RUNS);
    let arguments = [rate.to_string(), number.to_string()];
    let program = Program::c("toward_limit.c");
    let mut command = group.command(&program, &arguments.each_ref().map(String::as_str));
    let mut target = Target::start_command(&mut command);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "1s"]);
    target.say("go");
    let begun = Instant::now();
    let forecast = loop {
        assert!(begun.elapsed() < PATIENCE, "no forecast");
        let report = tracer.next_report();
        let read = Instant::now();
        if let Some(seconds) = forecast(&report) {
            break Forecast { at: read, seconds };
        }
    };
    // Ends when the kernel kills it.
    target.end();
    let dead = Instant::now();
    Run {
        forecast,
        dead,
        session: tracer.wait(),
    }
}

/// What is said of the limit of the control group, once so much of it is used.
fn forecast(report: &Report) -> Option<[f64; 2]> {
    let limits = report.0["limits"].as_array()?;
    let group = limits.iter().find(|limit| limit["kind"] == "cgroup")?;
    assert_eq!(group["limit_bytes"], LIMIT_BYTES, "{}", report.0);
    let used = group["used_bytes"].as_u64()? as f64;
    if used < USED * LIMIT_BYTES as f64 || report.0["time_left_until"] != "cgroup" {
        return None;
    }
    let seconds = &report.0["time_left_s"];
    Some([seconds[0].as_f64()?, seconds[1].as_f64()?])
}

#[test]
fn the_time_of_an_out_of_memory_kill_is_forecast_in_nine_of_ten_runs() {
    // Built once, not by all runs at the same time.
    Program::c("toward_limit.c").path();
    let mut runs = Vec::new();
    for first in (0..RUNS).step_by(AT_ONCE as usize) {
        let side_by_side: Vec<_> = (first..RUNS.min(first + AT_ONCE))
            .map(|number| std::thread::spawn(move || run(number)))
            .collect();
        for one in side_by_side {
            runs.push(one.join().unwrap_or_else(|_| panic!("a run failed")));
        }
    }
    let mut covered = 0;
    for Run {
        forecast,
        dead,
        session,
    } in &runs
    {
        let real = dead.duration_since(forecast.at).as_secs_f64();
        let [from, to] = forecast.seconds;
        let holds = from <= real && real <= to;
        eprintln!("forecast {from:.1} to {to:.1} s, was {real:.1} s: {holds}");
        covered += usize::from(holds);
        assert!(to < 3.0 * from + 10.0, "an interval says something");
        assert_eq!(session.end["out_of_memory"], true, "{}", session.end);
        assert_names_the_leak(session.final_report());
    }
    assert!(covered >= COVERED, "{covered} of {RUNS} forecasts hold");
}

#[track_caller]
fn assert_names_the_leak(report: &Report) {
    let leaking: Vec<_> = report
        .sites("heap")
        .filter(|site| site.0["verdict"] == "leaking")
        .collect();
    assert!(
        leaking.iter().any(|site| site.is_called_by("leaks")),
        "{}",
        report.0
    );
    assert!(
        leaking.iter().all(|site| site.is_called_by("leaks")),
        "{}",
        report.0
    );
}
