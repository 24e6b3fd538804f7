//! Behaviours that are no leaks. Where one looks like a leak for a while, it is decidable only
//! from when it shows what it is.

use crate::behaviours::{Behaviour, Work};
use crate::site::Noise;

pub(crate) const ALL: &[Behaviour] = &[
    Behaviour::healthy("one-time initialisation", 8, at_start),
    Behaviour::healthy("initialisation in three steps", 30, three_steps),
    Behaviour::healthy("initialisation on first use", 8, first_use),
    Behaviour::healthy("a warm-up that slows down", 45, warm_up),
    Behaviour::healthy("a cache that fills and stops", 40, cache_fills),
    Behaviour::healthy("a cache of random keys", 45, random_keys),
    Behaviour::healthy("a full cache that turns over", 45, turns_over),
    Behaviour::healthy("a cache that evicts at random", 45, random_eviction),
    Behaviour::healthy("a cache with a time to live", 45, time_to_live),
    Behaviour::healthy("a short sawtooth", 12, short_sawtooth),
    Behaviour::healthy("a long sawtooth", 45, long_sawtooth),
    Behaviour::healthy("an uneven sawtooth", 45, uneven_sawtooth),
    Behaviour::healthy("a wave", 45, wave),
    Behaviour::healthy("a long wave", 200, long_wave),
    Behaviour::healthy("a queue under bursts", 12, queue),
    Behaviour::healthy("a queue near its capacity", 60, busy_queue),
    Behaviour::healthy("a container that doubles", 12, doubling),
    Behaviour::healthy("a table that doubles and stops", 30, table),
    Behaviour::healthy("sessions of one length", 45, fixed_sessions),
    Behaviour::healthy("sessions of random length", 45, random_sessions),
    Behaviour::healthy("sessions with a heavy tail", 45, heavy_tail),
    Behaviour::healthy("users who log in and stay", 45, log_in),
    Behaviour::healthy("a pool at its high-water mark", 45, high_water),
    Behaviour::healthy("a batch that is freed at its end", 45, batch),
    Behaviour::healthy("noise around a level", 8, noise_around),
    Behaviour::healthy("noise that remembers", 12, slow_noise),
    Behaviour::healthy("a draining list", 12, draining),
    Behaviour::healthy("nothing but churn", 5, only_churn),
    Behaviour::healthy("a level that never moves", 5, at_rest),
    Behaviour::healthy("a peak that is given back", 30, peak_given_back),
    Behaviour::healthy("work that stops", 45, work_that_stops),
    Behaviour::healthy("a spike of connections", 30, spike).held_out(),
    Behaviour::healthy("log rotation", 45, rotation).held_out(),
    Behaviour::healthy("reloads of the configuration", 45, reloads).held_out(),
    Behaviour::healthy("interned words", 100, interned),
    Behaviour::healthy("a generational heap", 60, generations).held_out(),
    Behaviour::healthy("traffic that rises to a new level", 60, new_level).held_out(),
    Behaviour::healthy("late initialisation", 60, late_start).held_out(),
    Behaviour::healthy("lognormal sessions", 45, lognormal).held_out(),
    Behaviour::healthy("two lifetimes at one site", 60, two_lifetimes).held_out(),
];

fn at_start(noise: &mut Noise) -> Work {
    let size = noise.between(1e3, 1e8);
    Box::new(move |site, tick, _| {
        if tick == 1 {
            site.allocate(size);
        }
    })
}

fn three_steps(noise: &mut Noise) -> Work {
    let last = noise.between(6.0, 10.0) as u32;
    Box::new(move |site, tick, noise| {
        if [1, last / 2, last].contains(&tick) {
            site.allocate(noise.between(1e5, 1e6));
        }
    })
}

fn first_use(noise: &mut Noise) -> Work {
    let at = noise.between(2.0, 280.0) as u32;
    Box::new(move |site, tick, _| {
        if tick == at {
            site.allocate(1e6);
        }
    })
}

fn warm_up(noise: &mut Noise) -> Work {
    let time = noise.between(4.0, 8.0);
    let rate = noise.between(1e4, 1e6);
    Box::new(move |site, tick, noise| {
        site.allocate(rate * (-f64::from(tick) / time).exp() * noise.between(0.8, 1.2));
        site.churn(rate);
    })
}

fn cache_fills(noise: &mut Noise) -> Work {
    let full_at = noise.between(5.0, 18.0) as u32;
    let rate = noise.between(1e4, 1e6);
    Box::new(move |site, tick, noise| {
        if tick <= full_at {
            site.allocate(rate * noise.between(0.8, 1.2));
        }
    })
}

fn random_keys(noise: &mut Noise) -> Work {
    let keys = noise.between(500.0, 50_000.0);
    let time = noise.between(5.0, 10.0);
    let mut known = 0.0;
    Box::new(move |site, _, noise| {
        let new = noise
            .arrivals((keys - known) / time)
            .min((keys - known) as u64);
        known += new as f64;
        site.allocate_blocks(new, 256, f64::INFINITY);
    })
}

fn turns_over(noise: &mut Noise) -> Work {
    let rate = noise.between(1e5, 1e6);
    let capacity = rate * noise.between(5.0, 15.0);
    Box::new(move |site, _, noise| {
        site.allocate(rate * noise.between(0.7, 1.3));
        let over = site.live_bytes() - capacity;
        site.free_oldest(over.max(0.0));
    })
}

fn random_eviction(noise: &mut Noise) -> Work {
    let rate = noise.between(1e5, 1e6);
    let share = 1.0 / noise.between(4.0, 10.0);
    Box::new(move |site, _, noise| {
        site.allocate(rate * noise.between(0.7, 1.3));
        site.free_any(share, noise);
    })
}

fn time_to_live(noise: &mut Noise) -> Work {
    let ticks = noise.between(5.0, 18.0);
    Box::new(move |site, _, noise| site.allocate_for(1e6 * noise.between(0.5, 1.5), ticks))
}

fn sawtooth(period: u32, phase: u32) -> Work {
    Box::new(move |site, tick, noise| {
        if (tick + phase).is_multiple_of(period) {
            site.free_all();
        }
        site.allocate(1e5 * noise.between(0.8, 1.2));
    })
}

fn short_sawtooth(noise: &mut Noise) -> Work {
    sawtooth(
        noise.between(2.0, 5.0) as u32,
        noise.between(0.0, 5.0) as u32,
    )
}

fn long_sawtooth(noise: &mut Noise) -> Work {
    sawtooth(
        noise.between(10.0, 20.0) as u32,
        noise.between(0.0, 20.0) as u32,
    )
}

fn uneven_sawtooth(noise: &mut Noise) -> Work {
    let mean = noise.between(5.0, 8.0);
    let mut left = mean;
    Box::new(move |site, _, noise| {
        left -= 1.0;
        if left <= 0.0 {
            site.free_all();
            left = mean * noise.between(0.6, 1.5);
        }
        site.allocate(1e5 * noise.between(0.8, 1.2));
    })
}

fn wave_of(period: f64, phase: f64, lifetime: f64) -> Work {
    Box::new(move |site, tick, noise| {
        let angle = (f64::from(tick) / period + phase) * std::f64::consts::TAU;
        let traffic = 1e6 * (1.1 + angle.sin()) * noise.between(0.9, 1.1);
        site.allocate_for(traffic, noise.between(0.5, 1.5) * lifetime);
    })
}

fn wave(noise: &mut Noise) -> Work {
    wave_of(noise.between(10.0, 25.0), noise.between(0.0, 1.0), 3.0)
}

fn long_wave(noise: &mut Noise) -> Work {
    wave_of(noise.between(80.0, 150.0), noise.between(0.0, 1.0), 3.0)
}

fn queue(noise: &mut Noise) -> Work {
    let every = noise.between(5.0, 9.0) as u32;
    Box::new(move |site, tick, noise| {
        if tick % every < 2 {
            site.allocate(1e6 * noise.between(0.5, 1.0));
        }
        site.free_oldest(5e5);
    })
}

fn busy_queue(noise: &mut Noise) -> Work {
    let load = noise.between(0.7, 0.85);
    Box::new(move |site, _, noise| {
        site.allocate_blocks(noise.arrivals(100.0 * load), 1024, f64::INFINITY);
        site.free_oldest(1024.0 * noise.arrivals(100.0) as f64);
    })
}

fn doubling(noise: &mut Noise) -> Work {
    let feed = noise.between(100.0, 1e4);
    let mut used = 0.0;
    let mut capacity = feed;
    Box::new(move |site, _, noise| {
        used += feed * noise.between(0.5, 1.5);
        while used > capacity {
            capacity *= 2.0;
            site.free_all();
            site.allocate_blocks(1, capacity as u64, f64::INFINITY);
        }
    })
}

fn table(noise: &mut Noise) -> Work {
    let mut capacity = noise.between(1e3, 1e5);
    Box::new(move |site, tick, _| {
        if [1, 2, 4, 8].contains(&tick) {
            capacity *= 2.0;
            site.free_all();
            site.allocate_blocks(1, capacity as u64, f64::INFINITY);
        }
    })
}

fn fixed_sessions(noise: &mut Noise) -> Work {
    let ticks = noise.between(4.0, 18.0);
    Box::new(move |site, _, noise| site.allocate_blocks(noise.arrivals(50.0), 4096, ticks))
}

fn random_sessions(noise: &mut Noise) -> Work {
    let mean = noise.between(2.0, 8.0);
    Box::new(move |site, _, noise| {
        for _ in 0..noise.arrivals(30.0) {
            let ticks = noise.waiting(mean);
            site.allocate_blocks(1, 4096, ticks);
        }
    })
}

fn heavy_tail(noise: &mut Noise) -> Work {
    let shape = noise.between(1.2, 1.6);
    Box::new(move |site, _, noise| {
        for _ in 0..noise.arrivals(40.0) {
            let ticks = (1.0 - noise.even()).powf(-1.0 / shape);
            site.allocate_blocks(1, 2048, ticks);
        }
    })
}

fn log_in(noise: &mut Noise) -> Work {
    let mut outside = noise.between(200.0, 2000.0);
    let share = noise.between(0.12, 0.25);
    Box::new(move |site, _, noise| {
        let come = noise.arrivals(outside * share).min(outside as u64);
        outside -= come as f64;
        site.allocate_blocks(come, 4096, f64::INFINITY);
    })
}

fn high_water(noise: &mut Noise) -> Work {
    let mean = noise.between(50.0, 200.0);
    let mut pool = 0;
    Box::new(move |site, _, noise| {
        let needed = noise.arrivals(mean);
        if needed > pool {
            site.allocate_blocks(needed - pool, 8192, f64::INFINITY);
            pool = needed;
        }
    })
}

fn batch(noise: &mut Noise) -> Work {
    let length = noise.between(8.0, 16.0) as u32;
    let pause = noise.between(2.0, 6.0) as u32;
    Box::new(move |site, tick, noise| match tick % (length + pause) {
        at if at < length => site.allocate(1e5 * noise.between(0.8, 1.2)),
        at if at == length => site.free_all(),
        _ => {}
    })
}

fn noise_around(noise: &mut Noise) -> Work {
    let scatter = noise.between(0.01, 0.5);
    Box::new(move |site, _, noise| {
        let size = 1e6 * (1.0 + scatter * noise.normal()).max(0.1);
        site.allocate_for(size, 1.0);
    })
}

fn slow_noise(noise: &mut Noise) -> Work {
    let memory = noise.between(0.6, 0.9);
    let mut level = 0.0;
    Box::new(move |site, _, noise| {
        level = memory * level + noise.normal();
        site.allocate_for(1e6 * (1.0 + 0.1 * level).max(0.1), 1.0);
    })
}

fn draining(noise: &mut Noise) -> Work {
    let size = noise.between(1e6, 1e7);
    let share = noise.between(0.003, 0.02);
    Box::new(move |site, tick, noise| {
        if tick == 1 {
            site.allocate(size);
        }
        site.free_any(share, noise);
    })
}

fn only_churn(noise: &mut Noise) -> Work {
    let rate = noise.between(1e4, 1e9);
    Box::new(move |site, _, noise| site.churn(rate * noise.between(0.5, 1.5)))
}

fn at_rest(noise: &mut Noise) -> Work {
    let size = noise.between(1e2, 1e6) as u64;
    Box::new(move |site, tick, _| {
        if tick == 1 {
            site.allocate_blocks(1, size, f64::INFINITY);
        }
    })
}

fn peak_given_back(noise: &mut Noise) -> Work {
    let peak = noise.between(1e6, 1e8);
    let length = noise.between(2.0, 8.0) as u32;
    Box::new(move |site, tick, noise| {
        if tick == 1 {
            site.allocate(peak / 40.0);
        }
        if (3..3 + length).contains(&tick) {
            site.allocate_for(peak / f64::from(length), 1e6);
        }
        if tick == 5 + length {
            site.free_mortal();
        }
        site.allocate_for(peak / 400.0 * noise.between(0.8, 1.2), 1.0);
    })
}

fn work_that_stops(noise: &mut Noise) -> Work {
    let rate = noise.between(1e4, 1e6);
    let last = noise.between(20.0, 34.0) as u32;
    Box::new(move |site, tick, noise| {
        if tick <= last {
            site.allocate(rate * noise.between(0.8, 1.2));
        }
    })
}

fn spike(noise: &mut Noise) -> Work {
    let at = noise.between(3.0, 12.0) as u32;
    Box::new(move |site, tick, noise| {
        site.allocate_for(1e5 * noise.between(0.8, 1.2), 2.0);
        if (at..at + 3).contains(&tick) {
            site.allocate_for(3e6, noise.between(5.0, 9.0));
        }
    })
}

fn rotation(noise: &mut Noise) -> Work {
    let limit = noise.between(5e5, 1.5e6);
    Box::new(move |site, _, noise| {
        site.allocate(1e5 * noise.between(0.5, 1.5));
        if site.live_bytes() > limit {
            site.free_all();
        }
    })
}

fn reloads(noise: &mut Noise) -> Work {
    let every = noise.between(6.0, 14.0) as u32;
    let mut size = 1e6;
    Box::new(move |site, tick, noise| {
        if tick % every == 1 {
            site.free_all();
            size *= noise.between(0.97, 1.04);
            site.allocate(size);
        }
    })
}

fn interned(noise: &mut Noise) -> Work {
    let words = noise.between(2000.0, 20_000.0);
    let mut known = 0.0;
    Box::new(move |site, _, noise| {
        // Frequent words are met at once, rare ones later and later.
        let new = noise.arrivals((words - known) * 0.03 * (1.0 - known / words).powi(2));
        known += new as f64;
        site.allocate_blocks(new, 40, f64::INFINITY);
    })
}

fn generations(noise: &mut Noise) -> Work {
    let minor = noise.between(2.0, 4.0) as u32;
    let major = minor * 4;
    Box::new(move |site, tick, noise| {
        if tick.is_multiple_of(major) {
            site.free_all();
        } else if tick.is_multiple_of(minor) {
            site.free_any(0.8, noise);
        }
        site.allocate(1e6 * noise.between(0.7, 1.3));
    })
}

fn new_level(noise: &mut Noise) -> Work {
    let (from, to) = (noise.between(5.0, 10.0), noise.between(15.0, 25.0));
    Box::new(move |site, tick, noise| {
        let part = ((f64::from(tick) - from) / (to - from)).clamp(0.0, 1.0);
        site.allocate_for(
            1e6 * (1.0 + part) * noise.between(0.9, 1.1),
            noise.between(2.0, 5.0),
        );
    })
}

fn late_start(noise: &mut Noise) -> Work {
    let at = noise.between(20.0, 40.0) as u32;
    Box::new(move |site, tick, noise| {
        site.churn(1e6);
        if (at..at + 4).contains(&tick) {
            site.allocate(1e6 * noise.between(0.5, 1.0));
        }
    })
}

fn lognormal(noise: &mut Noise) -> Work {
    let middle = noise.between(0.0, 1.0);
    Box::new(move |site, _, noise| {
        for _ in 0..noise.arrivals(50.0) {
            let ticks = (middle + noise.normal()).exp();
            site.allocate_blocks(1, 2048, ticks);
        }
    })
}

fn two_lifetimes(noise: &mut Noise) -> Work {
    let long = noise.between(10.0, 20.0);
    Box::new(move |site, _, noise| {
        site.allocate_for(1e6 * noise.between(0.8, 1.2), 1.0);
        site.allocate_for(
            1e5 * noise.between(0.8, 1.2),
            noise.between(0.8, 1.2) * long,
        );
    })
}
