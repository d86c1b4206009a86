//! What the server of names answers itself: names of containers, and the names of their addresses.

use std::net::IpAddr;
use std::str::FromStr as _;

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::super::record::LeaseRecord;
use super::{Knowledge, Known};

/// For how many seconds an answer may be remembered. Containers come and go.
const TIME_TO_LIVE: u32 = 5;

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This is sent back.
    Own(Vec<u8>),
    /// Another server is asked, and this is sent back if none answers.
    Other(Vec<u8>),
    /// It is no question.
    None,
}

/// Answers a question. `longest` is how many bytes an answer may have; `None` is as many as the question says.
pub(super) fn answer(question: &[u8], knowledge: &Knowledge, longest: Option<u16>) -> Answer {
    let Ok(message) = Message::from_vec(question) else { return Answer::None };
    if message.metadata.message_type != MessageType::Query {
        return Answer::None;
    }
    let [query] = message.queries.as_slice() else { return refuse(&message, ResponseCode::FormErr) };
    let is_usual = message.metadata.op_code == OpCode::Query && query.query_class() == DNSClass::IN;
    let Some(answers) = is_usual.then(|| find(query, knowledge)).flatten() else {
        return match (own(&message, ResponseCode::ServFail, Vec::new()), knowledge.leads_out) {
            (Some(failure), true) => Answer::Other(failure),
            (Some(failure), false) => Answer::Own(failure),
            (None, _) => Answer::None,
        };
    };
    let longest = usize::from(longest.unwrap_or_else(|| message.max_payload()));
    match own(&message, ResponseCode::NoError, answers) {
        Some(bytes) if bytes.len() <= longest => Answer::Own(bytes),
        // Who asks does so again over a stream.
        Some(_) => cut(&message),
        None => Answer::None,
    }
}

fn refuse(message: &Message, code: ResponseCode) -> Answer {
    own(message, code, Vec::new()).map_or(Answer::None, Answer::Own)
}

fn cut(question: &Message) -> Answer {
    let mut answer = begin(question, ResponseCode::NoError);
    answer.metadata.truncation = true;
    answer.to_vec().map_or(Answer::None, Answer::Own)
}

fn begin(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&question.metadata);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.queries.clone_from(&question.queries);
    answer
}

fn own(question: &Message, code: ResponseCode, answers: Vec<Record>) -> Option<Vec<u8>> {
    let mut answer = begin(question, code);
    answer.add_answers(answers);
    answer.to_vec().ok()
}

/// The records that answer a question; `None` if it is not about a container.
fn find(query: &Query, knowledge: &Knowledge) -> Option<Vec<Record>> {
    let name = query.name().to_ascii().trim_end_matches('.').to_lowercase();
    if query.query_type() == RecordType::PTR {
        return name_of_address(query.name(), &name, knowledge);
    }
    let found: Vec<LeaseRecord> =
        knowledge.networks.iter().flat_map(|known| called(known, &name, &knowledge.links)).collect();
    if found.is_empty() {
        return None;
    }
    let record = |data| Record::from_rdata(query.name().clone(), TIME_TO_LIVE, data);
    let data = |lease: &LeaseRecord| match query.query_type() {
        RecordType::A => Some(RData::A(A(lease.address))),
        RecordType::AAAA => Some(RData::AAAA(AAAA(lease.address6?))),
        // It has a name, but nothing of this kind.
        _ => None,
    };
    Some(found.iter().filter_map(data).map(record).collect())
}

/// The containers of a network that have a name there: alone, or with that of the network after it.
fn called(known: &Known, name: &str, links: &[(String, String)]) -> Vec<LeaseRecord> {
    let with_network =
        name.strip_suffix(&known.network.to_lowercase()).and_then(|name| name.strip_suffix('.'));
    let is_linked = |lease: &LeaseRecord| {
        links.iter().any(|(alias, id)| *id == lease.container && alias.to_lowercase() == name)
    };
    let is_called = |lease: &LeaseRecord| {
        let mut names = lease.names.iter().map(|own| own.to_lowercase());
        names.any(|own| own == name || Some(own.as_str()) == with_network) || is_linked(lease)
    };
    // What cannot be read now is no answer.
    known.directory.living_that(is_called).unwrap_or_default()
}

/// The name of the container that has an address, with that of the network.
fn name_of_address(question: &Name, name: &str, knowledge: &Knowledge) -> Option<Vec<Record>> {
    let address = reversed(name)?;
    knowledge.networks.iter().find_map(|known| {
        let has = |lease: &LeaseRecord| match address {
            IpAddr::V4(address) => lease.address == address,
            IpAddr::V6(address) => lease.address6 == Some(address),
        };
        let found = known.directory.living_that(has).ok()?;
        let own = Name::from_str(&format!("{}.{}.", found.first()?.names.first()?, known.network)).ok()?;
        Some(vec![Record::from_rdata(question.clone(), TIME_TO_LIVE, RData::PTR(PTR(own)))])
    })
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".ip6.arpa") {
        let digits: Vec<&str> = digits.rsplit('.').collect();
        let groups: Vec<String> = digits.chunks(4).map(<[&str]>::concat).collect();
        return groups.join(":").parse().ok().map(IpAddr::V6);
    }
    let parts: Vec<&str> = name.strip_suffix(".in-addr.arpa")?.rsplit('.').collect();
    parts.join(".").parse().ok().map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::super::record::{Directory, Lease};
    use super::*;

    /// A network with two containers that are both called `web`.
    fn knowledge(runtime: &Path) -> (Knowledge, Vec<Lease>) {
        let directory = Directory::new(runtime, "0123");
        let lease = |last: u8, address6: Option<&str>, names: &[&str]| {
            let record = LeaseRecord {
                container: format!("{last:064}"),
                address: [10, 9, 8, last].into(),
                address6: address6.map(|text| text.parse().unwrap()),
                interface: String::new(),
                published: Vec::new(),
                names: names.iter().map(|name| (*name).to_owned()).collect(),
            };
            directory.lock().unwrap().lease(record).unwrap()
        };
        let leases = vec![lease(2, Some("fd00::2"), &["One", "web"]), lease(3, None, &["two", "web"])];
        let known = Known { directory: directory.clone(), network: "net".to_owned() };
        let links = vec![("alias".to_owned(), format!("{:064}", 3))];
        (Knowledge { networks: vec![known], links, servers: Vec::new(), leads_out: true }, leases)
    }

    fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn ask(knowledge: &Knowledge, name: &str, kind: RecordType) -> Option<Vec<String>> {
        match answer(&question(name, kind), knowledge, None) {
            Answer::Own(bytes) => {
                let message = Message::from_vec(&bytes).unwrap();
                assert_eq!(message.metadata.response_code, ResponseCode::NoError);
                let mut answers: Vec<String> =
                    message.answers.iter().map(|record| record.data.to_string()).collect();
                answers.sort_unstable();
                Some(answers)
            }
            Answer::Other(_) => None,
            Answer::None => panic!("no answer"),
        }
    }

    #[test]
    fn names_lead_to_living_containers() {
        let runtime = tempfile::tempdir().unwrap();
        let (knowledge, mut leases) = knowledge(runtime.path());
        let ask = |name: &str, kind| ask(&knowledge, name, kind);
        let some = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(ask("one.", RecordType::A), some(&["10.9.8.2"]));
        assert_eq!(ask("ONE.Net.", RecordType::A), some(&["10.9.8.2"]));
        assert_eq!(ask("one.", RecordType::AAAA), some(&["fd00::2"]));
        assert_eq!(ask("two.", RecordType::AAAA), some(&[]));
        assert_eq!(ask("web.", RecordType::A), some(&["10.9.8.2", "10.9.8.3"]));
        assert_eq!(ask("alias.", RecordType::A), some(&["10.9.8.3"]));
        assert_eq!(ask("3.8.9.10.in-addr.arpa.", RecordType::PTR), some(&["two.net."]));
        let of_six = format!("2.{}d.f.ip6.arpa.", "0.".repeat(29));
        assert_eq!(ask(&of_six, RecordType::PTR), some(&["one.net."]));
        assert_eq!(ask("four.", RecordType::A), None);
        assert_eq!(ask("one.other.", RecordType::A), None);
        assert_eq!(ask("9.8.9.10.in-addr.arpa.", RecordType::PTR), None);
        leases.remove(0);
        assert_eq!(ask("one.", RecordType::A), None);
        assert_eq!(ask("web.", RecordType::A), some(&["10.9.8.3"]));
    }

    #[test]
    fn who_cannot_get_out_asks_nobody() {
        let knowledge = Knowledge::default();
        let Answer::Own(bytes) = answer(&question("example.org.", RecordType::A), &knowledge, None) else {
            panic!("handed on")
        };
        assert_eq!(Message::from_vec(&bytes).unwrap().metadata.response_code, ResponseCode::ServFail);
    }

    #[test]
    fn what_is_too_long_for_a_message_is_asked_for_over_a_stream() {
        let runtime = tempfile::tempdir().unwrap();
        let (knowledge, _leases) = knowledge(runtime.path());
        let Answer::Own(bytes) = answer(&question("web.", RecordType::A), &knowledge, Some(40)) else {
            panic!("no answer")
        };
        let message = Message::from_vec(&bytes).unwrap();
        assert!(message.metadata.truncation && message.answers.is_empty());
        // An answer is no question.
        assert_eq!(answer(&bytes, &knowledge, None), Answer::None);
    }

    proptest! {
        #[test]
        fn garbage_is_no_question(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            at in any::<prop::sample::Index>(),
            other in any::<u8>(),
        ) {
            let knowledge = Knowledge::default();
            answer(&bytes, &knowledge, None);
            let mut bent = question("a.b.example.org.", RecordType::A);
            let index = at.index(bent.len());
            bent[index] = other;
            answer(&bent, &knowledge, None);
            answer(&bent[..index], &knowledge, None);
            // A name that goes on at its own beginning.
            bent.truncate(12);
            bent.extend([0xc0, 12, 0, 1, 0, 1]);
            answer(&bent, &knowledge, None);
        }
    }
}
