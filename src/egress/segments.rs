//! Joins a subscriber's packets into runs for UDP GSO: the kernel cuts a run into datagrams of one size, the last may be shorter.
//!
//! Encoders cut a frame into packets that differ by a byte or two. RTP padding (RFC 3550 section 5.1) evens them out: browsers
//! take it, and a few bytes cost far less than a system call.

/// A packet to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Job<S> {
    pub source: S,
    /// Bytes of the datagram without padding.
    pub len: usize,
    /// The most padding that it may get: up to [`MAX_PADDING`], or none. A packet that may be sent again under its own number
    /// must be the same to the byte, or two texts would be sealed with one nonce.
    pub padding: usize,
}

/// A stretch of jobs that goes out in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many jobs, at least one.
    pub count: usize,
    /// The size of its datagrams, in bytes; only the last may be shorter, and is never padded.
    pub size: usize,
}

/// What one send may carry.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Datagrams: 64 with Linux before 6.x, 1 without GSO.
    pub segments: usize,
    /// Bytes: below 65,507, the longest UDP payload.
    pub bytes: usize,
}

/// The most padding put on a packet, in bytes. RTP allows 255.
pub const MAX_PADDING: usize = 24;

/// The run at the front of `jobs`. `jobs` must not be empty.
pub fn next_run<S>(jobs: &[Job<S>], limits: Limits) -> Run {
    let Some(first) = jobs.first() else { return Run { count: 0, size: 0 } };
    // `reach` is the size that all jobs of the run so far can be padded to.
    let (mut size, mut reach, mut count) = (first.len, first.len + first.padding, 1);
    for job in jobs.iter().skip(1) {
        let grown = size.max(job.len);
        let full = count >= limits.segments || grown * (count + 1) > limits.bytes;
        if full || grown > reach {
            break;
        }
        count += 1;
        size = grown;
        if job.len + job.padding < size {
            break; // Much shorter: it can only be the last.
        }
        reach = reach.min(job.len + job.padding);
    }
    Run { count, size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { segments: 8, bytes: 10_000 };

    fn runs(lengths: &[usize]) -> Vec<(usize, usize)> {
        let jobs: Vec<Job<()>> = lengths.iter().map(|&len| Job { source: (), len, padding: MAX_PADDING }).collect();
        let mut rest = &jobs[..];
        let mut out = vec![];
        while !rest.is_empty() {
            let run = next_run(rest, LIMITS);
            out.push((run.count, run.size));
            rest = &rest[run.count..];
        }
        out
    }

    #[test]
    fn a_frame_is_one_run() {
        assert_eq!(runs(&[1200, 1201, 1199, 1201, 300]), [(5, 1201)]);
        assert_eq!(runs(&[300, 1200, 1200]), [(1, 300), (2, 1200)]);
        assert_eq!(runs(&[1200, 300, 1200]), [(2, 1200), (1, 1200)]);
        assert_eq!(runs(&[100; 10]), [(8, 100), (2, 100)]);
        assert_eq!(runs(&[1176, 1200, 1201]), [(2, 1200), (1, 1201)]);
    }

    #[test]
    fn what_must_not_be_padded_is_not() {
        let jobs = [100, 100, 101, 101, 90].map(|len| Job { source: (), len, padding: 0 });
        assert_eq!(next_run(&jobs, LIMITS), Run { count: 2, size: 100 });
        assert_eq!(next_run(&jobs[2..], LIMITS), Run { count: 3, size: 101 });
    }

    proptest! {
        #[test]
        fn runs_hold_what_they_promise(lengths in prop::collection::vec(20usize..1300, 1..60)) {
            let mut at = 0;
            for (count, size) in runs(&lengths) {
                prop_assert!((1..=LIMITS.segments).contains(&count));
                prop_assert!(count == 1 || size * count <= LIMITS.bytes);
                for (i, len) in lengths[at..at + count].iter().enumerate() {
                    prop_assert!(*len <= size);
                    prop_assert!(i + 1 == count || size - len <= MAX_PADDING);
                }
                at += count;
            }
            prop_assert_eq!(at, lengths.len());
        }
    }
}
