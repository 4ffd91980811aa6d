//! The one clock of this crate: what time it is, and how long ago the previous event was.
//!
//! Its readings go into the `at` and `elapsed_s` fields of event lines (and `created_at` of the
//! manifest) and are never read back to decide anything, so that two runs of one configuration
//! differ in these fields only.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A reading of the clock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stamp {
    /// RFC 3339, UTC, to the millisecond.
    pub(crate) at: String,
    /// Seconds, to the millisecond, since the previous reading of the same clock.
    pub(crate) elapsed_s: f64,
}

/// Measures the time between readings; the first is measured from its start.
#[derive(Debug)]
pub(crate) struct Clock {
    previous: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { previous: Instant::now() }
    }

    pub(crate) fn read(&mut self) -> Stamp {
        let now = Instant::now();
        let elapsed = now.duration_since(self.previous);
        self.previous = now;
        Stamp { at: now_utc(), elapsed_s: elapsed.as_millis() as f64 / 1000.0 }
    }
}

/// The time of day, RFC 3339.
pub(crate) fn now_utc() -> String {
    // A clock set before 1970 is wrong in any case; the run need not fail for it.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since_epoch.as_secs(), since_epoch.subsec_millis())
}

/// Days of the proleptic Gregorian calendar are counted in eras of 400 years that begin on 1 March,
/// so that the leap day is the last of its year.
fn rfc3339(seconds: u64, milliseconds: u32) -> String {
    const DAYS_BEFORE_EPOCH: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let (days, second) = (seconds / 86_400 + DAYS_BEFORE_EPOCH, seconds % 86_400);
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let leap_days = day_of_era / 1460 + day_of_era / (DAYS_PER_ERA - 1);
    let year_of_era = (day_of_era - leap_days + day_of_era / 36_524) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, expected: &str) {
        assert_eq!(rfc3339(seconds, 7), format!("{expected}.007Z"));
    }

    #[test]
    fn known_times_are_written_as_rfc_3339() {
        check(0, "1970-01-01T00:00:00");
        check(951_782_399, "2000-02-28T23:59:59");
        check(951_782_400, "2000-02-29T00:00:00");
        check(1_000_000_000, "2001-09-09T01:46:40");
        check(1_709_164_800, "2024-02-29T00:00:00");
        check(4_107_542_400, "2100-03-01T00:00:00");
    }

    #[test]
    fn every_day_of_two_centuries_follows_the_one_before() {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..73_000 {
            check(days * 86_400, &format!("{year:04}-{month:02}-{day:02}T00:00:00"));
            let length = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
