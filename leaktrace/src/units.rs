//! Numbers → the short forms that people read: `12.3 MiB`, `+512 KiB/s`, `1,234`. Never used where
//! a program reads.

/// Bytes in the largest binary unit that leaves at least 1: `512 B`, `12.3 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    // From 1023.95 on, one decimal would round up to 1024.0.
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// Bytes with their sign: `+12.3 MiB`, `-512 B`, `0 B`.
pub(crate) fn signed_bytes(change_bytes: i64) -> String {
    let sign = match change_bytes {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", bytes(change_bytes.unsigned_abs()))
}

/// A rate with its sign: `+1.2 MiB/s`; below 10 B/s with a decimal, so that a slow leak does not
/// look like none.
pub(crate) fn rate(bytes_per_s: f64) -> String {
    let size = bytes_per_s.abs();
    if size < 0.05 {
        return "0 B/s".to_owned();
    }
    let sign = if bytes_per_s < 0.0 { "-" } else { "+" };
    if size < 9.95 {
        return format!("{sign}{size:.1} B/s");
    }
    format!("{sign}{}/s", bytes(size.round() as u64))
}

/// A rate of what is counted and not measured: `+1.5/s`.
pub(crate) fn object_rate(objects_per_s: f64) -> String {
    format!("{objects_per_s:+.1}/s")
}

/// A rate without a sign: `102.4 KiB/s`.
pub(crate) fn unsigned_rate(bytes_per_s: f64) -> String {
    rate(bytes_per_s.abs()).trim_start_matches('+').to_owned()
}

/// A count with a comma at every thousand: `1,234`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count with its noun: `1 block`, `1,234 blocks`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A time since the start: `10.0 s`, `2 min 05 s`, `1 h 02 min`.
pub(crate) fn elapsed(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

/// A share: `45%`, `<1%`, `0%`.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0%".to_owned();
    }
    let percent = 100.0 * part as f64 / whole as f64;
    if percent < 1.0 {
        "<1%".to_owned()
    } else {
        format!("{percent:.0}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_change_unit_before_they_show_1024() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(bytes(12_897_484), "12.3 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(signed_bytes(-2048), "-2.0 KiB");
        assert_eq!(signed_bytes(0), "0 B");
    }

    #[test]
    fn slow_rates_do_not_read_as_zero() {
        assert_eq!(rate(0.4), "+0.4 B/s");
        assert_eq!(rate(-12.0), "-12 B/s");
        assert_eq!(rate(1_258_291.2), "+1.2 MiB/s");
        assert_eq!(rate(0.0), "0 B/s");
    }

    #[test]
    fn counts_times_and_shares_read_well() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(counted(1, "block"), "1 block");
        assert_eq!(elapsed(10.04), "10.0 s");
        assert_eq!(elapsed(59.96), "1 min 00 s");
        assert_eq!(elapsed(3725.0), "1 h 02 min");
        assert_eq!(share(1, 1000), "<1%");
        assert_eq!(share(0, 0), "0%");
        assert_eq!(share(450, 1000), "45%");
    }
}
