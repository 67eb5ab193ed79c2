#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn sizes_are_read_in_binary_and_decimal_units() {
    let cases = [
        ("512", 512),
        ("0", 0),
        ("4Mi", 4 << 20),
        ("4MiB", 4 << 20),
        ("10MB", 10_000_000),
        ("10M", 10_000_000),
        ("64Ki", 64 << 10),
        ("1k", 1_000),
        ("2 Gi", 2 << 30),
        ("1Ti", 1 << 40),
    ];
    for (text, bytes) in cases {
        assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
    }
}

#[test]
fn a_text_that_is_no_size_is_refused() {
    for text in ["", "Mi", "-1", "1.5Gi", "512m", "4 potatoes", "99999999999Gi", "4Mi4"] {
        assert!(parse_bytes(text).is_err(), "{text}");
    }
}

#[test]
fn durations_are_read_in_all_units() {
    let cases = [
        ("5s", 5_000),
        ("500ms", 500),
        ("1m30s", 90_000),
        ("24h", 24 * 3_600_000),
        ("7d", 7 * 24 * 3_600_000),
        ("0", 0),
        ("0s", 0),
        ("1h0m1s", 3_601_000),
    ];
    for (text, milliseconds) in cases {
        assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
    }
    assert_eq!(parse_duration("5µs").unwrap(), Duration::from_micros(5));
}

#[test]
fn a_text_that_is_no_duration_is_refused() {
    for text in ["", "s", "-5s", "1.5s", "5 s", "5s3", "5x", "999999999d"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn the_error_of_a_bare_number_shows_how_to_write_it() {
    let shown = parse_duration("30").unwrap_err().to_string();
    assert_eq!(shown, "30 has no unit; write 30s for seconds, or 30ms for milliseconds");
}

#[test]
fn booleans_are_read_as_go_reads_them() {
    for text in ["1", "t", "T", "true", "TRUE", "True"] {
        assert_eq!(parse_go_bool(text), Some(true), "{text}");
    }
    for text in ["0", "f", "F", "false", "FALSE", "False"] {
        assert_eq!(parse_go_bool(text), Some(false), "{text}");
    }
    for text in ["", "tRUE", "yes", "on", " true", "2"] {
        assert_eq!(parse_go_bool(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = parse_bytes(&text);
        let _ = parse_duration(&text);
    }

    #[test]
    fn every_whole_number_of_milliseconds_is_read(number in 0_u64..1_000_000_000) {
        let read = parse_duration(&format!("{number}ms")).unwrap();
        prop_assert_eq!(read, Duration::from_millis(number));
    }
}
