//! Which part of a file a request asks for (RFC 9110 section 14).
use axum::http::HeaderMap;
use axum::http::header::{IF_RANGE, RANGE};

/// What is to be sent of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Whole,
    /// From `start` up to `end`, which is not part of it. Never empty.
    Part {
        start: u64,
        end: u64,
    },
    /// Nothing of what is asked for is there: 416.
    Nothing,
}

impl Wanted {
    /// `len`: of the file; `etag`: what the file is now, quoted, if that is certain. What cannot be understood, or asks for several parts, is
    /// not there: then the whole file is the answer.
    pub fn of(headers: &HeaderMap, len: u64, etag: Option<&str>) -> Self {
        let mut ranges = headers.get_all(RANGE).iter();
        let (Some(range), None) = (ranges.next(), ranges.next()) else { return Self::Whole };
        // Only if it is still the same file. A date does not tell that of a file that changes within a second.
        if headers.get(IF_RANGE).is_some_and(|was| etag.is_none_or(|etag| was != etag)) {
            return Self::Whole;
        }
        range.to_str().ok().and_then(|range| Self::parse(range, len)).unwrap_or(Self::Whole)
    }

    fn parse(range: &str, len: u64) -> Option<Self> {
        let (unit, part) = range.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = part.trim().split_once('-')?;
        if first.is_empty() {
            let suffix = number(last)?;
            let start = len.saturating_sub(suffix);
            return Some(if start < len { Self::Part { start, end: len } } else { Self::Nothing });
        }
        let start = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        if last < start {
            return None;
        }
        let end = last.saturating_add(1).min(len);
        Some(if start < len { Self::Part { start, end } } else { Self::Nothing })
    }
}

/// Digits alone: no sign. More than a u64 holds is as good as its greatest.
fn number(digits: &str) -> Option<u64> {
    let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn of(range: &str, len: u64) -> Wanted {
        Wanted::of(&HeaderMap::from_iter([(RANGE, HeaderValue::from_str(range).unwrap())]), len, None)
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let part = |start, end| Wanted::Part { start, end };
        for (range, wanted) in [
            ("bytes=0-499", part(0, 500)),
            ("bytes=500-999", part(500, 1000)),
            ("bytes=500-", part(500, 1000)),
            ("bytes=999-5000", part(999, 1000)),
            ("bytes=-500", part(500, 1000)),
            ("bytes=-5000", part(0, 1000)),
            ("Bytes=0-0", part(0, 1)),
            ("bytes=0-99999999999999999999999", part(0, 1000)),
            ("bytes=1000-", Wanted::Nothing),
            ("bytes=99999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-0,5-9", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(of(range, 1000), wanted, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(of("bytes=-1", 0), Wanted::Nothing);
    }

    #[test]
    fn a_part_is_of_the_file_that_the_first_part_was_of() {
        let ask = |if_range: &'static str, etag: Option<&str>| {
            let headers =
                [(RANGE, HeaderValue::from_static("bytes=1-")), (IF_RANGE, HeaderValue::from_static(if_range))];
            Wanted::of(&HeaderMap::from_iter(headers), 10, etag)
        };
        assert_eq!(ask("\"a\"", Some("\"a\"")), Wanted::Part { start: 1, end: 10 });
        assert_eq!(ask("\"a\"", Some("\"b\"")), Wanted::Whole);
        assert_eq!(ask("W/\"a\"", Some("\"a\"")), Wanted::Whole);
        assert_eq!(ask("\"a\"", None), Wanted::Whole);
        assert_eq!(ask("Sat, 21 Nov 2026 10:00:00 GMT", Some("\"a\"")), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_file(range in "[bytes=]{0,6}=?[0-9,-]{0,24}", len in 0u64..2000) {
            if let Wanted::Part { start, end } = of(&range, len) {
                prop_assert!(start < end && end <= len);
            }
        }
    }
}
