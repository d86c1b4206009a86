//! What templates give, and what they are refused for.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn document() -> Value {
    json!({
        "Name": "/web-1", "Size": 12_345, "Ratio": 0.5, "Up": true, "Nothing": null,
        "State": {"Pid": 42, "Status": "running", "Running": true},
        "Env": ["A=1", "B=2"],
        "Config": {"Cmd": ["sh"], "Labels": {"com.example.role": "db", "x": "1"}},
        "Mounts": [{"Type": "bind", "Source": "/a"}, {"Type": "volume", "Source": "/b"}],
        "Networks": {"back": {"IPAddress": "10.0.0.2"}, "front": {"IPAddress": "10.0.1.2"}},
    })
}

fn filled(template: &str) -> String {
    fill(template, &document()).unwrap_or_else(|error| panic!("{template}: {}", error.message()))
}

fn refused(template: &str) -> String {
    fill(template, &document()).expect_err(template).message().to_owned()
}

#[test]
fn fields_and_how_go_prints_them() {
    assert_eq!(filled("{{.Name}} {{ .State.Pid }} {{.Up}} {{.Ratio}} {{.Size}}"), "/web-1 42 true 0.5 12345");
    assert_eq!(filled("{{.Env}} {{.Config.Labels}}"), "[A=1 B=2] map[com.example.role:db x:1]");
    assert_eq!(filled("{{.Nothing}} {{.Config.Labels.absent}}"), "<no value> <no value>");
    assert_eq!(filled("plain"), "plain");
}

#[test]
fn json_is_what_inspect_shows() {
    assert_eq!(filled("{{json .Env}}"), r#"["A=1","B=2"]"#);
    assert_eq!(filled("{{json .State}}"), r#"{"Pid":42,"Running":true,"Status":"running"}"#);
    assert_eq!(serde_json::from_str::<Value>(&filled("json")).unwrap(), document());
}

#[test]
fn control_structures() {
    assert_eq!(filled("{{range .Env}}{{.}};{{end}}"), "A=1;B=2;");
    assert_eq!(filled("{{range $i, $e := .Env}}{{$i}}={{$e}} {{end}}"), "0=A=1 1=B=2 ");
    assert_eq!(
        filled("{{range $k, $v := .Networks}}{{$k}}:{{$v.IPAddress}} {{end}}"),
        "back:10.0.0.2 front:10.0.1.2 "
    );
    assert_eq!(filled("{{range .Nothing}}x{{else}}none{{end}}"), "none");
    assert_eq!(filled("{{with .State}}{{.Status}}{{end}}{{with .Nothing}}x{{else}}-{{end}}"), "running-");
    assert_eq!(filled("{{if eq .State.Status \"paused\"}}a{{else if gt .Size 10}}b{{else}}c{{end}}"), "b");
    assert_eq!(filled("{{if and .Up (not .Nothing) (or .Nothing (lt .Ratio 1.0))}}yes{{end}}"), "yes");
    assert_eq!(filled("{{if .State.Health}}x{{else}}no check{{end}}"), "no check");
    assert_eq!(filled("{{$p := .State.Pid}}{{$p}} {{/* not shown */}}{{- \"x\" -}}  y"), "42 xy");
}

#[test]
fn functions() {
    assert_eq!(
        filled("{{index .Config.Labels \"com.example.role\"}}|{{index .Config.Labels \"no\"}}|"),
        "db||"
    );
    assert_eq!(filled("{{index .Env 1}} {{len .Mounts}} {{(index .Mounts 0).Source}}"), "B=2 2 /a");
    assert_eq!(filled("{{join .Env \",\"}} {{.Name | upper | lower | title}}"), "A=1,B=2 /Web-1");
    assert_eq!(
        filled("{{range split \"a:b\" \":\"}}<{{.}}>{{end}} {{slice .Name 1}} {{truncate .Name 3}}"),
        "<a><b> web-1 /we"
    );
    assert_eq!(
        filled("{{pad \"x\" 1 2}}|{{printf \"%s %5d %q\" .Name .Size \"q\"}}{{println \"!\"}}"),
        " x  |/web-1 12345 \"q\"!\n"
    );
}

#[test]
fn what_is_not_there_is_told_in_dockers_words() {
    assert_eq!(
        refused("{{.Nope}}"),
        "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
    );
    let list = Template::parse("{{.Nope}}").unwrap().fill(&document(), Missing::Field).expect_err("a field");
    assert_eq!(
        list.message(),
        "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope"
    );
    for bad in [
        "{{.Name",
        "{{if .Up}}",
        "{{end}}",
        "{{nope .}}",
        "{{.Name.Length}}",
        "{{index .Env 9}}",
        "{{range}}",
        "{{\"a}}",
    ] {
        assert!(refused(bad).starts_with("template parsing error: template: :1:"), "{}", refused(bad));
    }
}

#[test]
fn templates_that_call_themselves_are_refused() {
    refused("{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}");
}

#[test]
fn what_would_never_end_is_refused() {
    refused("{{range 100000000000}}xxxxxxxxxx{{end}}");
    refused("{{pad \"x\" 99999999999 1}}");
}

#[test]
fn deep_nesting_is_refused() {
    refused(&format!("{{{{{}1{}}}}}", "(".repeat(50_000), ")".repeat(50_000)));
    refused(&"{{if 1}}".repeat(50_000));
    refused(&format!("{{{{if 0}}}}{}{{{{end}}}}", "{{else if 1}}".repeat(50_000)));
}

proptest! {
    /// Whatever is typed, there is an answer.
    #[test]
    fn no_template_panics(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "{{", "}}", "{{-", "-}}", ".", ".Name", ".State.Pid", " ", "range ", "if ", "end", "else ", "with ", "$x", ":=", "|", "(", ")",
                "\"", "`", "'", "json ", "index ", "len ", "printf ", "%d%s%v", "join ", "split ", "truncate ", "pad ", "slice ", "eq ", "1", "-9",
                "1e999", "/*", "*/", "\n", "é", "define \"a\"", "template \"a\"", "block ", "break", ".Label \"a\"", "label ", "\\", "{", "}",
            ]),
            0..24,
        ),
        noise in ".{0,8}",
    ) {
        let text = parts.concat() + &noise;
        if let Ok(template) = Template::parse(&text) {
            let _ = template.fill(&document(), Missing::Key);
        }
        let _ = Template::parse_for_titles(&text);
    }
}
