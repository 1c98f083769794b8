//! Figures as people read them.

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with about three digits that count: `0.042`, `4.2`, `42`, `4,200`.
pub fn number(n: f64) -> String {
    match n.abs() {
        _ if !n.is_finite() => "–".to_owned(),
        0.0 => "0".to_owned(),
        a if a < 0.095 => format!("{n:.3}"),
        a if a < 9.95 => trimmed(format!("{n:.2}")),
        a if a < 99.95 => trimmed(format!("{n:.1}")),
        _ if n < 0.0 => format!("-{}", count(n.abs().round() as u64)),
        _ => count(n.round() as u64),
    }
}

/// `0`, `850 µs`, `4.2 ms`, `1.2 s`.
pub fn duration_us(us: u64) -> String {
    match us {
        0 => "0".to_owned(),
        1..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", number(us as f64 / 1e3)),
        _ => format!("{} s", number(us as f64 / 1e6)),
    }
}

/// `0:42`, `1:00:05`.
pub fn clock(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `512 B`, `38 KiB`, `1.2 GiB`.
pub fn bytes(n: f64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| n.abs() >= (1u64 << shift) as f64);
    unit.map_or(format!("{} B", number(n)), |(name, shift)| format!("{} {name}", number(n / (1u64 << shift) as f64)))
}

/// `1.5 Mbit/s`.
pub fn bits_per_s(n: f64) -> String {
    let units = [("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)];
    let unit = units.into_iter().find(|(_, scale)| n >= *scale);
    unit.map_or(format!("{} bit/s", number(n)), |(name, scale)| format!("{} {name}", number(n / scale)))
}

/// A share as `12%`, `0.35%`, `0.004%`; what is not nothing is never told as nothing.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if !p.is_finite() => "–".to_owned(),
        0.0 => "0%".to_owned(),
        p if p.abs() < 0.001 => "< 0.001%".to_owned(),
        p if p.abs() < 0.1 => format!("{}%", trimmed(format!("{p:.3}"))),
        p if p.abs() < 10.0 => format!("{}%", trimmed(format!("{p:.2}"))),
        p => format!("{p:.0}%"),
    }
}

fn trimmed(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_right() {
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [number(0.0), number(0.5), number(4.25), number(42.0), number(4_200.4)],
            ["0", "0.5", "4.25", "42", "4,200"]
        );
        assert_eq!([number(-0.5), number(-4_200.0), number(f64::NAN)], ["-0.5", "-4,200", "–"]);
        assert_eq!([duration_us(7), duration_us(4_200), duration_us(1_250_000)], ["7 µs", "4.2 ms", "1.25 s"]);
        assert_eq!([clock(5_900), clock(65_000), clock(3_605_000)], ["0:05", "1:05", "1:00:05"]);
        assert_eq!([bytes(0.0), bytes(38.0 * 1024.0), bytes(1.5 * 1048576.0)], ["0 B", "38 KiB", "1.5 MiB"]);
        assert_eq!([bits_per_s(1.5e6), bits_per_s(64_000.0)], ["1.5 Mbit/s", "64 kbit/s"]);
        assert_eq!(
            [percent(0.0), percent(0.000_001), percent(0.000_35), percent(0.0012), percent(0.42)],
            ["0%", "< 0.001%", "0.035%", "0.12%", "42%"]
        );
    }
}
