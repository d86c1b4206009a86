//! `--log-driver` and `--log-opt`: where output goes. Names, values and refusals are Docker's.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use engine::containers::log_drivers::{Address, FillTag, Remote, TlsFiles, fluentd, gelf, syslog};
use engine::request::{LogDriver, LogOptions};
use regex::Regex;
use serde_json::json;

use crate::error::CliError;
use crate::pairs::pair;
use crate::template::{Missing, Template};

/// Options of every driver.
const MODE: [&str; 2] = ["mode", "max-buffer-size"];

/// Options of drivers that write files.
const FILES: [&str; 3] = ["max-size", "max-file", "compress"];

/// Options of drivers whose records say more than what was written.
const ATTRIBUTES: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];

/// Options of drivers that send records away, for the copy that stays here.
const CACHE: [&str; 4] = ["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];

const SYSLOG: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

const GELF: [&str; 5] = [
    "gelf-address",
    "gelf-compression-type",
    "gelf-compression-level",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];

const FLUENTD: [&str; 9] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
];

/// Drivers of Docker for services that want their own protocols.
const SERVICES: [(&str, &str); 4] = [
    ("awslogs", "CloudWatch"),
    ("gcplogs", "Google Cloud Logging"),
    ("splunk", "Splunk"),
    ("etwlogs", "Windows"),
];

/// How large and how many the files of `local` are, and those of copies, when nobody says.
const USUAL_FILE: u64 = 20 << 20;
const USUAL_FILES: u32 = 5;

/// Bytes that wait in non-blocking mode, and before fluentd, when nobody says.
const USUAL_BUFFER: u64 = 1 << 20;

/// What a container has that records may carry.
pub(crate) struct Known<'a> {
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// `NAME=VALUE`
    pub(crate) env: &'a [String],
}

/// What the flags mean; `None` where nothing is asked for.
pub(crate) fn parse(
    driver: Option<&str>,
    options: &[String],
    known: &Known<'_>,
) -> Result<Option<LogOptions>, CliError> {
    if driver.is_none() && options.is_empty() {
        return Ok(None);
    }
    let driver = named(driver.unwrap_or(LogDriver::JsonFile.name()))?;
    let given = Given { driver, values: options.iter().map(|option| pair(option)).collect() };
    given.check_names()?;
    given.options(known).map(Some)
}

fn named(name: &str) -> Result<LogDriver, CliError> {
    if let Some(driver) = LogDriver::ALL.into_iter().find(|driver| driver.name() == name) {
        return Ok(driver);
    }
    let names: Vec<&str> = LogDriver::ALL.iter().map(|driver| driver.name()).collect();
    Err(match SERVICES.iter().find(|(known, _)| *known == name) {
        Some((_, service)) => CliError::usage(
            format!("the log driver '{name}' is for {service}, whose protocol is not built in"),
            "use fluentd, gelf or syslog, with an agent such as Fluent Bit that passes records on to it",
        ),
        None => CliError::usage(
            format!("logger: no log driver named '{name}' is registered"),
            &format!("the drivers are {}", names.join(", ")),
        ),
    })
}

/// The options of a driver, as they were typed.
struct Given {
    driver: LogDriver,
    values: BTreeMap<String, String>,
}

impl Given {
    fn check_names(&self) -> Result<(), CliError> {
        let name = self.driver.name();
        let known: Vec<&str> = match self.driver {
            LogDriver::None => Vec::new(),
            LogDriver::JsonFile => [&FILES[..], &ATTRIBUTES, &MODE].concat(),
            LogDriver::Local => [&FILES[..], &MODE].concat(),
            LogDriver::Syslog => [&SYSLOG[..], &ATTRIBUTES, &MODE, &CACHE].concat(),
            LogDriver::Journald => [&ATTRIBUTES[..], &MODE].concat(),
            LogDriver::Gelf => [&GELF[..], &ATTRIBUTES, &MODE, &CACHE].concat(),
            LogDriver::Fluentd => [&FLUENTD[..], &ATTRIBUTES, &MODE, &CACHE].concat(),
        };
        let known = if self.driver == LogDriver::Journald { [&known[..], &CACHE].concat() } else { known };
        match self.values.keys().find(|option| !known.contains(&option.as_str())) {
            None => Ok(()),
            Some(option) => {
                let hint = match known.is_empty() {
                    true => "leave --log-opt out, or choose another driver".to_owned(),
                    false => format!("the options of {name} are {}", known.join(", ")),
                };
                Err(CliError::usage(format!("unknown log opt '{option}' for {name} log driver"), &hint))
            }
        }
    }

    fn options(self, known: &Known<'_>) -> Result<LogOptions, CliError> {
        let is_file = matches!(self.driver, LogDriver::JsonFile | LogDriver::Local);
        let (size, count, packed) = match is_file {
            true => ("max-size", "max-file", "compress"),
            false => ("cache-max-size", "cache-max-file", "cache-compress"),
        };
        let is_limited = !matches!(self.driver, LogDriver::JsonFile | LogDriver::None);
        let max_size = match self.values.get(size).map(String::as_str) {
            Some("-1") => None,
            Some(text) => Some(self.size(size, text)?),
            None => is_limited.then_some(USUAL_FILE),
        };
        let max_files = self.number(count)?.unwrap_or(if is_limited { USUAL_FILES } else { 1 });
        if max_files == 0 {
            return Err(self.invalid(count, "that is no number of files"));
        }
        if max_files > 1 && max_size.is_none() {
            return Err(CliError::usage(
                format!("the log option {count} needs {size}"),
                &format!("add --log-opt {size}=10m"),
            ));
        }
        let compress = self.flag(packed)?.unwrap_or(is_limited);
        if self.driver == LogDriver::JsonFile && compress && (max_files < 2 || max_size.is_none()) {
            return Err(CliError::usage(
                "compress cannot be true when max-file is less than 2 or max-size is not set".to_owned(),
                "add --log-opt max-size=10m --log-opt max-file=3",
            ));
        }
        let remote = self.remote()?;
        let mut dropping = self.buffer()?;
        if let Some(Remote::Fluentd(settings)) = &remote
            && settings.asynchronous
        {
            let limit = self.values.get("fluentd-buffer-limit");
            let limit = limit.map(|text| self.size("fluentd-buffer-limit", text)).transpose()?;
            dropping = Some(dropping.unwrap_or(0) + limit.unwrap_or(USUAL_BUFFER));
        }
        Ok(LogOptions {
            driver: self.driver,
            max_size,
            max_files,
            attributes: self.attributes(known)?,
            compress,
            dropping,
            uncached: self.flag("cache-disabled")?.unwrap_or(false),
            remote,
            tag: self.tag()?,
            fill_tag: Some(FillTag(fill_tag)),
            given: self.values,
            ..LogOptions::default()
        })
    }

    /// Bytes that wait before records are dropped, in non-blocking mode.
    fn buffer(&self) -> Result<Option<u64>, CliError> {
        let size = self.values.get("max-buffer-size");
        let size = size.map(|text| self.size("max-buffer-size", text)).transpose()?;
        match self.text("mode") {
            Some("non-blocking") => Ok(Some(size.unwrap_or(USUAL_BUFFER))),
            None | Some("blocking") if size.is_some() => Err(CliError::usage(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned(),
                "add --log-opt mode=non-blocking",
            )),
            None | Some("blocking") => Ok(None),
            Some(_) => Err(self.invalid("mode", "it is blocking or non-blocking")),
        }
    }

    fn attributes(&self, known: &Known<'_>) -> Result<BTreeMap<String, String>, CliError> {
        let mut found = BTreeMap::new();
        let env: BTreeMap<String, String> = known.env.iter().map(|entry| pair(entry)).collect();
        for (names, pattern, from) in [("labels", "labels-regex", known.labels), ("env", "env-regex", &env)] {
            let listed = self.text(names).unwrap_or_default();
            let listed = listed.split(',').filter_map(|name| from.get_key_value(name.trim()));
            found.extend(listed.map(|(name, value)| (name.clone(), value.clone())));
            if let Some(text) = self.text(pattern) {
                let regex =
                    Regex::new(text).map_err(|_| self.invalid(pattern, "that is no regular expression"))?;
                let fitting = from.iter().filter(|(name, _)| regex.is_match(name));
                found.extend(fitting.map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        Ok(found)
    }

    /// The template of the tag. That it can be filled is found out now.
    fn tag(&self) -> Result<String, CliError> {
        let Some(text) = self.text("tag") else { return Ok(String::new()) };
        let sample = "0".repeat(64);
        let fields = ["ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "Command", "DaemonName"];
        let sample: serde_json::Map<_, _> =
            fields.iter().map(|field| ((*field).to_owned(), json!(sample))).collect();
        fill_tag(text, &sample.into())
            .map_err(|why| CliError::usage(format!("invalid log option tag=\"{text}\": {why}"), TAG_HINT))?;
        Ok(text.to_owned())
    }

    fn remote(&self) -> Result<Option<Remote>, CliError> {
        Ok(Some(match self.driver {
            LogDriver::JsonFile | LogDriver::Local | LogDriver::None => return Ok(None),
            LogDriver::Journald => Remote::Journald,
            LogDriver::Syslog => Remote::Syslog(self.syslog()?),
            LogDriver::Gelf => Remote::Gelf(self.gelf()?),
            LogDriver::Fluentd => Remote::Fluentd(self.fluentd()?),
        }))
    }

    fn syslog(&self) -> Result<syslog::Settings, CliError> {
        let schemes = ["udp", "tcp", "tcp+tls", "unix", "unixgram"];
        let facility = self.text("syslog-facility").map(|text| {
            syslog::facility(text).ok_or_else(|| self.invalid("syslog-facility", "there is no such facility"))
        });
        let format = syslog::format(self.text("syslog-format").unwrap_or_default());
        let file = |name: &str| self.text(name).map(std::path::PathBuf::from);
        let tls = TlsFiles {
            authorities: file("syslog-tls-ca-cert"),
            certificate: file("syslog-tls-cert"),
            key: file("syslog-tls-key"),
            trust_all: self.flag("syslog-tls-skip-verify")?.unwrap_or(false),
        };
        if tls.certificate.is_some() != tls.key.is_some() {
            return Err(self.invalid("syslog-tls-cert", "a certificate and its key need each other"));
        }
        Ok(syslog::Settings {
            address: self.address("syslog-address", &schemes, Some(514))?,
            facility: facility.transpose()?.unwrap_or(syslog::DAEMON),
            format: format
                .ok_or_else(|| self.invalid("syslog-format", "it is rfc3164, rfc5424 or rfc5424micro"))?,
            tls,
        })
    }

    fn gelf(&self) -> Result<gelf::Settings, CliError> {
        let address = self.address("gelf-address", &["udp", "tcp"], None)?;
        let address = address.ok_or_else(|| {
            CliError::usage(
                "gelf: the log option gelf-address is missing".to_owned(),
                "add --log-opt gelf-address=udp://HOST:12201",
            )
        })?;
        let (other, over) = match address {
            Address::Tcp(..) => (&GELF[1..3], "UDP"),
            _ => (&GELF[3..], "TCP"),
        };
        if let Some(option) = other.iter().find(|option| self.values.contains_key(**option)) {
            return Err(self.invalid(option, format!("it is only for {over}")));
        }
        let squeeze = match self.text("gelf-compression-type") {
            None | Some("gzip") => gelf::Squeeze::Gzip,
            Some("zlib") => gelf::Squeeze::Zlib,
            Some("none") => gelf::Squeeze::None,
            Some(_) => return Err(self.invalid("gelf-compression-type", "it is gzip, zlib or none")),
        };
        let level = self.number("gelf-compression-level")?.unwrap_or(1);
        if !(-1..=9).contains(&level) {
            return Err(self.invalid("gelf-compression-level", "it is between -1 and 9"));
        }
        Ok(gelf::Settings {
            address,
            squeeze,
            level,
            reconnects: self.number("gelf-tcp-max-reconnect")?.unwrap_or(3),
            reconnect_delay: self.number("gelf-tcp-reconnect-delay")?.unwrap_or(1),
        })
    }

    fn fluentd(&self) -> Result<fluentd::Settings, CliError> {
        let text = self.text("fluentd-address").unwrap_or("127.0.0.1");
        let whole = if text.contains("://") { text.to_owned() } else { format!("tcp://{text}") };
        let address = Address::parse(&whole, &["tcp", "tls", "unix"], Some(fluentd::PORT));
        let milliseconds = |name: &str| self.time(name);
        let asynchronous = self.flag("fluentd-async")?.unwrap_or(false);
        if !asynchronous && self.values.contains_key("fluentd-async-reconnect-interval") {
            return Err(self.invalid("fluentd-async-reconnect-interval", "it needs fluentd-async=true"));
        }
        Ok(fluentd::Settings {
            address: address.map_err(|why| self.invalid("fluentd-address", &why))?,
            asynchronous,
            retry_wait: milliseconds("fluentd-retry-wait")?.unwrap_or(1000),
            retries: self.number("fluentd-max-retries")?.unwrap_or(u32::MAX),
            sub_seconds: self.flag("fluentd-sub-second-precision")?.unwrap_or(false),
            acknowledged: self.flag("fluentd-request-ack")?.unwrap_or(false),
            reconnect_interval: milliseconds("fluentd-async-reconnect-interval")?,
            write_timeout: milliseconds("fluentd-write-timeout")?,
        })
    }

    fn address(&self, name: &str, schemes: &[&str], port: Option<u16>) -> Result<Option<Address>, CliError> {
        let parse = |text| Address::parse(text, schemes, port).map_err(|why| self.invalid(name, &why));
        self.text(name).map(parse).transpose()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, CliError> {
        match self.text(name) {
            None => Ok(None),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(Some(true)),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(Some(false)),
            Some(_) => Err(self.invalid(name, "it is true or false")),
        }
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, CliError> {
        let parse = |text: &str| text.parse().map_err(|_| self.invalid(name, "that is no such number"));
        self.text(name).map(parse).transpose()
    }

    fn size(&self, name: &str, text: &str) -> Result<u64, CliError> {
        let size = base::bytes::parse_binary(text).filter(|size| *size > 0);
        size.ok_or_else(|| self.invalid(name, "that is no size"))
    }

    /// A time in milliseconds, with a unit or without.
    fn time(&self, name: &str) -> Result<Option<u64>, CliError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let time = text.parse().ok().or_else(|| {
            base::time::parse_duration(text).and_then(|time| u64::try_from(time.as_millis()).ok())
        });
        time.map(Some).ok_or_else(|| self.invalid(name, "write a time such as 1s or 500ms"))
    }

    fn invalid(&self, name: &str, why: impl Display) -> CliError {
        let value = self.values.get(name).map_or("", String::as_str);
        let hint = format!("see the log options of {} in Docker's documentation", self.driver.name());
        CliError::usage(format!("invalid log option \"{name}={value}\": {why}"), &hint)
    }
}

const TAG_HINT: &str = "the fields are {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageID}}, {{.ImageFullID}}, {{.ImageName}}, \
                        {{.Command}} and {{.DaemonName}}";

/// Fills templates of tags.
fn fill_tag(template: &str, fields: &serde_json::Value) -> Result<String, String> {
    let filled = Template::parse(template).and_then(|template| template.fill(fields, Missing::Field));
    filled.map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(driver: &str, options: &[&str]) -> Result<LogOptions, CliError> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let labels = ["tier=front", "com.x=1"].iter().map(|text| pair(text)).collect();
        let env = ["A=1".to_owned(), "AB=2".to_owned(), "C=3".to_owned()];
        let known = Known { labels: &labels, env: &env };
        parse(Some(driver), &options, &known).map(Option::unwrap)
    }

    #[test]
    fn every_driver_has_its_options_and_no_others() {
        let syslog = parsed(
            "syslog",
            &["syslog-address=tcp://h:1", "syslog-facility=local3", "syslog-format=rfc5424"],
        );
        let Some(Remote::Syslog(settings)) = syslog.unwrap().remote else { panic!("not syslog") };
        assert_eq!((settings.facility, settings.format), (19, syslog::Format::Rfc5424));
        let gelf = parsed("gelf", &["gelf-address=udp://h:1", "gelf-compression-type=none"]).unwrap();
        assert_eq!((gelf.max_size, gelf.max_files, gelf.compress), (Some(20 << 20), 5, true));
        let fluentd = parsed("fluentd", &["fluentd-async=true", "cache-disabled=true"]).unwrap();
        assert_eq!((fluentd.dropping, fluentd.has_files()), (Some(1 << 20), false));
        let local = parsed("local", &["max-file=2", "compress=false"]).unwrap();
        assert_eq!((local.max_size, local.max_files, local.compress), (Some(20 << 20), 2, false));
        let slow = parsed("journald", &["mode=non-blocking", "max-buffer-size=4m"]).unwrap();
        assert_eq!(slow.dropping, Some(4 << 20));
        for (driver, option) in [
            ("json-file", "syslog-address=udp://h"),
            ("json-file", "cache-disabled=true"),
            ("local", "labels=a"),
            ("syslog", "max-size=1m"),
            ("journald", "gelf-address=udp://h:1"),
            ("none", "max-size=1m"),
            ("fluentd", "fluentd-tag=x"),
        ] {
            let error = parsed(driver, &[option]).unwrap_err().message().to_owned();
            assert!(error.contains("unknown log opt"), "{driver} {option}: {error}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for (driver, options) in [
            ("json-file", &["mode=fast"][..]),
            ("json-file", &["max-buffer-size=1m"]),
            ("json-file", &["compress=true"]),
            ("json-file", &["tag={{.Nothing}}"]),
            ("json-file", &["tag={{"]),
            ("json-file", &["env-regex=("]),
            ("syslog", &["syslog-address=h:1"]),
            ("syslog", &["syslog-facility=other"]),
            ("syslog", &["syslog-format=xml"]),
            ("syslog", &["syslog-tls-cert=/c"]),
            ("gelf", &[]),
            ("gelf", &["gelf-address=udp://h"]),
            ("gelf", &["gelf-address=tcp://h:1", "gelf-compression-type=gzip"]),
            ("gelf", &["gelf-address=udp://h:1", "gelf-tcp-max-reconnect=1"]),
            ("gelf", &["gelf-address=udp://h:1", "gelf-compression-level=10"]),
            ("fluentd", &["fluentd-address=udp://h:1"]),
            ("fluentd", &["fluentd-max-retries=x"]),
            ("fluentd", &["fluentd-retry-wait=soon"]),
            ("fluentd", &["fluentd-async-reconnect-interval=1s"]),
            ("local", &["max-size=0"]),
            ("local", &["max-file=0"]),
        ] {
            assert!(parsed(driver, options).is_err(), "{driver} {options:?}");
        }
        for driver in ["awslogs", "splunk", "gcplogs", "etwlogs", "other"] {
            assert!(parsed(driver, &[]).is_err(), "{driver}");
        }
    }

    #[test]
    fn records_carry_what_was_chosen() {
        let options = ["labels=tier,none", "labels-regex=^com", "env=C", "env-regex=^A", "tag=x/{{.Name}}"];
        let parsed = parsed("json-file", &options).unwrap();
        let names: Vec<&str> = parsed.attributes.keys().map(String::as_str).collect();
        assert_eq!(names, ["A", "AB", "C", "com.x", "tier"]);
        assert_eq!(parsed.tag, "x/{{.Name}}");
        let fields = json!({"Name": "web", "ID": "0123"});
        assert_eq!(fill_tag("{{upper .Name}}-{{.ID}}", &fields).as_deref(), Ok("WEB-0123"));
    }
}
