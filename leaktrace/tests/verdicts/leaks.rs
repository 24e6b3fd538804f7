//! Behaviours that are leaks. Sizes are a real service's; an interval is a second here.

use crate::behaviours::{Behaviour, Work};
use crate::site::Noise;

pub(crate) const ALL: &[Behaviour] = &[
    Behaviour::leak("a block every request", 15, steady),
    Behaviour::leak("a few small blocks now and then", 30, trickle),
    Behaviour::leak("a slow leak in heavy churn", 40, slow_in_churn),
    Behaviour::leak("a slow leak in a noisy pool", 45, slow_in_pool),
    Behaviour::leak("a leak in bursts", 60, bursts),
    Behaviour::leak("a leak on a rare error path", 45, error_path),
    Behaviour::leak("a rare big block", 100, rare_big),
    Behaviour::leak("a leak under a sawtooth", 45, under_sawtooth),
    Behaviour::leak("a leak under a wave", 45, under_wave),
    Behaviour::leak("a leak that begins late", 100, begins_late),
    Behaviour::leak("a leak that speeds up", 20, speeds_up),
    Behaviour::leak("a leak with the traffic", 20, with_traffic),
    Behaviour::leak("half of each request is lost", 20, half_lost),
    Behaviour::leak("a leak beside a full cache", 45, beside_cache),
    Behaviour::leak("one session in twenty is lost", 100, lost_sessions),
    Behaviour::leak("a leak after a big start", 20, after_start),
    Behaviour::leak("a leak after a peak given back", 60, after_peak),
    Behaviour::leak("a leak by day only", 100, by_day).held_out(),
    Behaviour::leak("a list that is never pruned", 15, never_pruned).held_out(),
    Behaviour::leak("a leak under a garbage collector", 100, under_collector).held_out(),
    Behaviour::leak("a lost buffer per reconnect", 60, reconnects).held_out(),
    Behaviour::leak("a slow leak under lognormal sessions", 150, under_sessions).held_out(),
];

fn steady(noise: &mut Noise) -> Work {
    let rate = noise.between(500.0, 500_000.0);
    Box::new(move |site, _, noise| site.allocate(rate * noise.between(0.8, 1.2)))
}

fn trickle(noise: &mut Noise) -> Work {
    let rate = noise.between(0.4, 2.0);
    Box::new(move |site, _, noise| site.allocate_blocks(noise.arrivals(rate), 32, f64::INFINITY))
}

fn slow_in_churn(noise: &mut Noise) -> Work {
    let churn = noise.between(1e6, 1e8);
    let lost = noise.between(0.001, 0.01);
    let lifetime = noise.between(0.5, 2.5);
    Box::new(move |site, _, noise| {
        let traffic = churn * noise.between(0.6, 1.4);
        site.churn(traffic / 2.0);
        site.allocate_for(traffic / 2.0, noise.between(0.5, 1.5) * lifetime);
        site.allocate(churn * lost * noise.between(0.5, 1.5));
    })
}

fn slow_in_pool(noise: &mut Noise) -> Work {
    let pool = noise.between(1e6, 1e7);
    let lost = pool / noise.between(300.0, 1000.0);
    Box::new(move |site, _, noise| {
        for _ in 0..10 {
            let lifetime = noise.waiting(3.0);
            site.allocate_for(pool / 30.0 * noise.between(0.5, 1.5), lifetime);
        }
        site.allocate(lost * noise.between(0.5, 1.5));
    })
}

fn bursts(noise: &mut Noise) -> Work {
    let mean = noise.between(3.0, 5.0);
    let mut wait = noise.waiting(mean);
    Box::new(move |site, _, noise| {
        wait -= 1.0;
        if wait <= 0.0 {
            site.allocate(noise.between(2e5, 1e6));
            wait = noise.between(0.5, 1.5) * mean;
        }
    })
}

fn error_path(noise: &mut Noise) -> Work {
    let chance = noise.between(0.3, 0.5);
    let size = noise.between(100.0, 5000.0) as u64;
    Box::new(move |site, _, noise| {
        site.churn(noise.between(1e5, 2e5));
        if noise.chance(chance) {
            site.allocate_blocks(1, size, f64::INFINITY);
        }
    })
}

fn rare_big(noise: &mut Noise) -> Work {
    let every = noise.between(6.0, 11.0) as u32;
    Box::new(move |site, tick, _| {
        if tick.is_multiple_of(every) {
            site.allocate_blocks(1, 1 << 20, f64::INFINITY);
        }
    })
}

fn under_sawtooth(noise: &mut Noise) -> Work {
    let period = noise.between(4.0, 8.0) as u32;
    let tooth = noise.between(1e5, 1e6);
    let lost = tooth * noise.between(0.05, 0.2);
    Box::new(move |site, tick, noise| {
        if tick.is_multiple_of(period) {
            site.free_mortal();
        }
        site.allocate_for(tooth * noise.between(0.8, 1.2), 1e6);
        site.allocate(lost);
    })
}

fn under_wave(noise: &mut Noise) -> Work {
    let period = noise.between(10.0, 15.0);
    let phase = noise.between(0.0, 7.0);
    let lost = noise.between(2e4, 1e5);
    Box::new(move |site, tick, noise| {
        let angle = (f64::from(tick) / period + phase) * std::f64::consts::TAU;
        site.allocate_for(
            1e6 * (1.2 + angle.sin()) * noise.between(0.9, 1.1),
            noise.between(1.0, 3.0),
        );
        site.allocate(lost * noise.between(0.5, 1.5));
    })
}

fn begins_late(noise: &mut Noise) -> Work {
    let begin = noise.between(15.0, 25.0) as u32;
    Box::new(move |site, tick, noise| {
        site.allocate_for(1e5 * noise.between(0.8, 1.2), 1.0);
        if tick > begin {
            site.allocate(1e4 * noise.between(0.5, 1.5));
        }
    })
}

fn speeds_up(noise: &mut Noise) -> Work {
    let rate = noise.between(1e3, 1e5);
    Box::new(move |site, tick, noise| {
        site.allocate(rate * f64::from(tick) / 10.0 * noise.between(0.8, 1.2));
    })
}

fn with_traffic(noise: &mut Noise) -> Work {
    let mut traffic = noise.between(1e4, 1e5);
    let middle = traffic;
    Box::new(move |site, _, noise| {
        traffic = middle
            * (0.3 + (0.9 * (traffic / middle - 0.3) + 0.07 + 0.2 * noise.normal()).max(0.0));
        site.churn(20.0 * traffic);
        site.allocate(traffic);
    })
}

fn half_lost(noise: &mut Noise) -> Work {
    let rate = noise.between(1e4, 1e6);
    Box::new(move |site, _, noise| {
        let work = rate * noise.between(0.8, 1.2);
        site.allocate_for(work / 2.0, 1.0);
        site.allocate(work / 2.0);
    })
}

fn beside_cache(noise: &mut Noise) -> Work {
    let capacity = noise.between(1e6, 1e7);
    let turnover = capacity / noise.between(4.0, 8.0);
    Box::new(move |site, _, noise| {
        site.allocate_for(turnover * noise.between(0.8, 1.2), capacity / turnover);
        site.allocate(turnover / 20.0);
    })
}

fn lost_sessions(noise: &mut Noise) -> Work {
    let lifetime = noise.between(2.0, 5.0);
    Box::new(move |site, _, noise| {
        for _ in 0..noise.arrivals(40.0) {
            let ends = noise.waiting(lifetime);
            let lost = noise.chance(0.05);
            site.allocate_blocks(1, 4096, if lost { f64::INFINITY } else { ends });
        }
    })
}

fn after_start(noise: &mut Noise) -> Work {
    let start = noise.between(1e7, 1e8);
    Box::new(move |site, tick, noise| {
        if tick <= 2 {
            site.allocate(start / 2.0);
        }
        site.allocate(start / 1e3 * noise.between(0.8, 1.2));
    })
}

fn after_peak(noise: &mut Noise) -> Work {
    let peak = noise.between(1e6, 1e8);
    let begin = noise.between(15.0, 25.0) as u32;
    let rate = peak * noise.between(0.001, 0.01);
    Box::new(move |site, tick, noise| {
        match tick {
            1 => site.allocate(peak / 40.0),
            3..=5 => site.allocate_for(peak / 3.0, 1e6),
            7 => site.free_mortal(),
            _ => {}
        }
        if tick > begin {
            site.allocate(rate * noise.between(0.8, 1.2));
        }
    })
}

fn by_day(noise: &mut Noise) -> Work {
    let half_day = noise.between(8.0, 14.0) as u32;
    Box::new(move |site, tick, noise| {
        if (tick / half_day).is_multiple_of(2) {
            site.allocate(1e4 * noise.between(0.5, 1.5));
        }
    })
}

fn never_pruned(noise: &mut Noise) -> Work {
    let rate = noise.between(20.0, 2000.0);
    Box::new(move |site, _, noise| site.allocate_blocks(noise.arrivals(rate), 48, f64::INFINITY))
}

fn under_collector(noise: &mut Noise) -> Work {
    let threshold = noise.between(3e6, 9e6);
    Box::new(move |site, _, noise| {
        if site.live_bytes() > threshold * noise.between(0.8, 1.3) + 1e6 {
            site.free_mortal();
        }
        site.allocate_for(1e6 * noise.between(0.5, 1.5), 1e6);
        site.allocate(5e4);
    })
}

fn reconnects(noise: &mut Noise) -> Work {
    let mean = noise.between(2.0, 4.0);
    Box::new(move |site, _, noise| {
        for _ in 0..noise.arrivals(1.0 / mean) {
            site.allocate_blocks(1, 65536, f64::INFINITY);
        }
    })
}

fn under_sessions(noise: &mut Noise) -> Work {
    let rate = noise.between(20.0, 60.0);
    Box::new(move |site, _, noise| {
        for _ in 0..noise.arrivals(rate) {
            let lifetime = (0.5 + noise.normal()).exp();
            site.allocate_blocks(1, 2048, lifetime);
        }
        site.allocate_blocks(noise.arrivals(2.0), 512, f64::INFINITY);
    })
}
