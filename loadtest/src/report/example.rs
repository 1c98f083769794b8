//! A made-up run, for tests and for looking at reports without running anything.
use super::histogram::Histogram;
use super::model::*;

/// A classroom of 300 in which all went well.
pub fn classroom() -> LoadResult {
    let samples: Vec<Sample> = (1..=45).map(second).collect();
    let received: u64 = samples.iter().map(|s| s.packets_received).sum();
    LoadResult {
        schema: SCHEMA,
        version: "0.1.0".to_owned(),
        started_unix_ms: 1_795_416_000_000,
        command: "loadtest classroom --subscribers 300 --duration 30".split(' ').map(str::to_owned).collect(),
        machine: Machine {
            cpu_model: "AMD EPYC".to_owned(),
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "Linux 6.18.44".to_owned(),
            load_before: 0.12,
            rmem_max_bytes: 4 << 20,
            wmem_max_bytes: 4 << 20,
        },
        scenario: Scenario {
            name: "classroom".to_owned(),
            summary: "1 publisher at 1.5 Mbit/s, 300 viewers".to_owned(),
            duration_ms: 30_000,
            options: [("subscribers", 300.into()), ("videoBps", 1_500_000.into()), ("codec", "vp8".into())]
                .map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value))
                .into(),
        },
        thresholds: Thresholds::default(),
        totals: totals(received),
        server: Some(server()),
        generator: GeneratorFigures {
            measured_ms: 30_000,
            cpu: CpuTime { user_us: 7_000_000, system_us: 5_000_000 },
            threads: 1,
            cpu_share_max: 0.44,
            loop_lag: spread(9_000, 120),
            packets_due: 9_450,
            packets_sent: 9_450,
            packets_received: 1_890_000,
            receive_buffer_bytes: 4 << 20,
            ..Default::default()
        },
        recording: None,
        interrupted: false,
        limit: None,
        verdict: Verdict { outcome: Outcome::Clean, reasons: Vec::new() },
        samples,
    }
}

fn totals(received: u64) -> Totals {
    let audio = received / 4;
    let media = |slots, received, middle_us| Media {
        slots,
        expected: received,
        received,
        received_bytes: received * 900,
        frames: slots * 25 * 40,
        latency: spread(received, middle_us),
        ..Default::default()
    };
    Totals {
        elapsed_ms: 45_000,
        publishers: 1,
        subscribers: 300,
        joins: Joins {
            wanted: 301,
            joined: 301,
            failed: 0,
            rate_per_s: 50.0,
            welcome: spread(301, 2_500),
            connected: spread(301, 12_000),
            first_packet: spread(300, 31_000),
            first_keyframe: spread(300, 52_000),
        },
        audio: media(300, audio, 700),
        video: media(300, received - audio, 950),
        ..Default::default()
    }
}

fn server() -> ServerFigures {
    ServerFigures {
        name: "exedra 0.1.0".to_owned(),
        pid: Some(4_242),
        shards: 1,
        measured_ms: 30_000,
        cpu: Some(CpuTime { user_us: 2_300_000, system_us: 2_900_000 }),
        packets_out: 1_890_000,
        packets_in: 6_300,
        datagrams_out: 1_911_000,
        datagrams_in: 42_000,
        bytes_out: 1_890_000 * 940,
        bytes_in: 6_300 * 1_000,
        sends: 410_000,
        receives: 30_100,
        memory: Some(Memory {
            rss_before_bytes: 14 << 20,
            rss_joined_bytes: 31 << 20,
            rss_max_bytes: 32 << 20,
            rss_end_bytes: 31 << 20,
            descriptors_before: 14,
            descriptors_end: 315,
            peers: 301,
        }),
        floor: Some(Floor { ns_per_packet: 1_980.0, what: "1,150 bytes to 300 sockets, runs of 6".to_owned() }),
        ..Default::default()
    }
}

fn second(at: u64) -> Sample {
    let joined = (at * 30).min(301);
    let phase = match at {
        0..=12 => Phase::Joining,
        13..=42 => Phase::Measuring,
        _ => Phase::Settling,
    };
    let wave = (at as f64 * 0.7).sin() + (at as f64 * 1.9).cos() * 0.6;
    let packets = if phase == Phase::Settling { 0 } else { joined * 210 + (wave * 300.0) as i64 as u64 % 400 };
    let latency = spread(packets.max(1), 900 + (wave * 90.0).abs() as u64 + if at == 27 { 2_400 } else { 0 });
    Sample {
        at_ms: at * 1_000,
        interval_ms: 1_000,
        phase,
        wanted: 301,
        joined,
        packets_sent: 210,
        packets_received: packets,
        bytes_received: packets * 900,
        latency: latency.quantiles(),
        first_packet: if at <= 10 { spread(30, 31_000 + at * 700).quantiles() } else { Default::default() },
        server: Some(ServerSample {
            cpu_share: Some(packets as f64 * 2.75e-6 + wave * 0.004),
            rss_bytes: Some((14 << 20) + joined * 58_000 + at * 2_000),
            descriptors: Some(14 + joined),
            packets_in: 210,
            packets_out: packets,
            datagrams_out: packets + packets / 90,
            sends: packets / 5,
            receives: 1_000,
            ..Default::default()
        }),
        generator: GeneratorSample {
            cpu_share: packets as f64 * 6.3e-6 + 0.01 + wave.abs() * 0.01,
            loop_lag_max_us: 300,
            ..Default::default()
        },
        machine: MachineSample { busy_share: packets as f64 * 5.0e-6, ..Default::default() },
        ..Default::default()
    }
}

/// Durations as they come: most around the middle, a few far out.
fn spread(count: u64, middle_us: u64) -> Histogram {
    let mut histogram = Histogram::default();
    let mut left = count;
    for step in 0..24u64 {
        let factor = 0.45 * 1.17f64.powi(step as i32);
        let weight = (-((factor.ln() / 0.38).powi(2)) / 2.0).exp() * 0.165;
        let n = ((count as f64 * weight) as u64).min(left);
        histogram.record_many_us((middle_us as f64 * factor) as u64, n);
        left -= n;
    }
    histogram.record_many_us(middle_us, left);
    histogram
}
