use super::*;

const HOST: &str = "bigquery.googleapis.com";

fn call_with(verb: &str, target: &str, headers: &[(&str, &str)]) -> Recognised {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().expect("name"), value.parse().expect("value"));
    }
    recognise(&verb.parse().expect("verb"), HOST, &target.parse().expect("target"), &map)
}

fn call(verb: &str, target: &str) -> Recognised {
    call_with(verb, target, &[])
}

#[test]
fn what_bq_sends() {
    let query = call("POST", "/bigquery/v2/projects/p/jobs?alt=json");
    assert_eq!((query.method, query.body, query.check()), ("jobs.insert", BodyPlan::Deciding, Ok(())));
    assert_eq!(query.project.as_deref(), Some("p"));

    let poll = call("GET", "/bigquery/v2/projects/p/jobs/bqjob_r1?location=US&alt=json");
    let job = JobReference { project: Some("p".into()), id: "bqjob_r1".into(), location: Some("US".into()) };
    assert_eq!((poll.method, poll.body, poll.job), ("jobs.get", BodyPlan::Empty, Some(job)));

    let head = call_with(
        "GET",
        "/bigquery/v2/projects/p/datasets/d/tables/t/data?maxResults=3&startIndex=0&alt=json",
        &[("content-length", "0")],
    );
    assert_eq!((head.method, head.body), ("tabledata.list", BodyPlan::Empty));
    let table = TableUse {
        project: Some("p".into()),
        dataset: Some("d".into()),
        table: "t".into(),
        access: Access::Read,
    };
    assert_eq!(head.intent().tables, [table]);

    let insert = call("POST", "/bigquery/v2/projects/p/datasets/d/tables/t/insertAll?alt=json");
    assert_eq!((insert.method, insert.body), ("tabledata.insertAll", BodyPlan::Bulk));
    assert_eq!(insert.intent().tables[0].access, Access::Write);

    let policy = call("POST", "/bigquery/v2/projects/p/datasets/d/tables/t:getIamPolicy?alt=json");
    assert_eq!((policy.method, policy.intent().tables[0].access), ("tables.getIamPolicy", Access::Read));
}

#[test]
fn a_get_with_a_body_is_read() {
    let with_length = call_with("GET", "/bigquery/v2/projects", &[("content-length", "2")]);
    assert_eq!(with_length.body, BodyPlan::Deciding);
    let chunked = call_with("GET", "/bigquery/v2/projects", &[("transfer-encoding", "chunked")]);
    assert_eq!(chunked.body, BodyPlan::Deciding);
}

#[test]
fn uploads() {
    let path = "/upload/bigquery/v2/projects/p/jobs";
    let begin = call("POST", &format!("{path}?alt=json&uploadType=resumable"));
    assert_eq!(
        (begin.method, begin.upload, begin.body),
        ("jobs.insert", Some(Upload::Begin), BodyPlan::Deciding)
    );

    let put = call("PUT", &format!("{path}?uploadType=resumable&upload_id=AB%2Dc"));
    let id = upload::UploadId::new("AB-c").expect("an id");
    assert_eq!(
        (put.method, put.upload, put.body),
        ("jobs.insert", Some(Upload::Continue(id)), BodyPlan::Bulk)
    );
    assert_eq!(put.http.path, format!("{path}?uploadType=resumable&upload_id=REDACTED"));

    let related = [("content-type", "multipart/related; boundary=\"==x==\"")];
    let multipart = call_with("POST", &format!("{path}?uploadType=multipart"), &related);
    assert_eq!(multipart.upload, Some(Upload::Multipart("==x==".into())));
    assert_eq!((multipart.method, multipart.body), ("jobs.insert", BodyPlan::FirstPart));

    for (verb, query) in [
        ("POST", ""),
        ("POST", "?uploadType=media"),
        ("POST", "?uploadType=multipart"),
        ("PUT", "?uploadType=resumable"),
        ("PUT", "?uploadType=resumable&upload_id="),
        ("POST", "?uploadType=resumable&upload_id=x"),
        ("DELETE", "?upload_id=x"),
    ] {
        let refused = call(verb, &format!("{path}{query}"));
        assert_eq!(refused.check().map_err(|e| e.category()), Err("unknown_method"), "{verb} {query}");
    }
}

#[test]
fn storage_grpc() {
    let read = recognise(
        &Method::POST,
        "bigquerystorage.googleapis.com:443",
        &"/google.cloud.bigquery.storage.v1.BigQueryRead/CreateReadSession".parse().expect("path"),
        &[
            (header::CONTENT_TYPE, "application/grpc".parse().expect("value")),
            (
                HeaderName::from_static("x-goog-request-params"),
                "read_session.table=projects/p/datasets/d/tables/t".parse().expect("value"),
            ),
        ]
        .into_iter()
        .collect(),
    );
    assert_eq!(
        (read.method, read.body, read.check()),
        ("BigQueryRead.CreateReadSession", BodyPlan::Bulk, Ok(()))
    );
    assert_eq!(read.intent().tables[0].to_string(), "p.d.t");
    let v2 = call_with(
        "POST",
        "/google.cloud.bigquery.v2.JobService/InsertJob",
        &[("content-type", "application/grpc")],
    );
    assert_eq!((v2.method, v2.check().map_err(|e| e.category())), (UNKNOWN_METHOD, Err("unknown_method")));
}

#[test]
fn discovery_documents() {
    for target in ["/$discovery/rest?version=v2", "/discovery/v1/apis/bigquery/v2/rest"] {
        let document = call("GET", target);
        assert_eq!(
            (document.method, document.body, document.check()),
            ("discovery.getRest", BodyPlan::Empty, Ok(()))
        );
    }
    assert!(call("POST", "/$discovery/rest").check().is_err());
    assert!(call("GET", "/discovery/v1/apis/a/b/c/rest").check().is_err());
}

#[test]
fn what_is_not_in_the_table_is_recorded_and_refused() {
    let unknown = call("POST", "/mcp?key=s3cret");
    assert_eq!((unknown.method, unknown.http.path.as_str()), (UNKNOWN_METHOD, "/mcp?key=REDACTED"));
    let refusal = unknown.check().expect_err("unknown");
    assert_eq!(refusal.category(), "unknown_method");
    assert!(refusal.to_string().contains("POST /mcp") && !refusal.to_string().contains("s3cret"));
    for (verb, target) in [
        ("POST", "/batch/bigquery/v2"),
        ("GET", "/"),
        ("OPTIONS", "/bigquery/v2/projects/p/queries"),
        ("GET", "/v1/projects/p/locations/us/reservations"),
        ("POST", "/bigquery/v3/projects/p/queries"),
    ] {
        assert_eq!(
            call(verb, target).check().map_err(|e| e.category()),
            Err("unknown_method"),
            "{verb} {target}"
        );
    }
    let storage = recognise(
        &Method::GET,
        "www.googleapis.com",
        &"/storage/v1/b".parse().expect("path"),
        &HeaderMap::new(),
    );
    assert!(storage.check().is_err());
    let shared = "/bigquery/v2/projects/p/queries".parse().expect("path");
    let shared = recognise(&Method::POST, "www.googleapis.com", &shared, &HeaderMap::new());
    assert_eq!((shared.method, shared.check()), ("jobs.query", Ok(())));
}

#[test]
fn disguised_calls_are_refused() {
    let path = "/bigquery/v2/projects/p/queries";
    for header in [
        ("x-http-method-override", "GET"),
        ("X-HTTP-Method", "GET"),
        ("x-goog-upload-protocol", "resumable"),
        ("content-type", "application/json; charset=utf-16"),
    ] {
        let refused = call_with("POST", path, &[header]);
        assert_eq!(refused.check().map_err(|e| e.category()), Err("ambiguous_request"), "{header:?}");
        assert_eq!(refused.method, UNKNOWN_METHOD);
    }
    for query in [
        "$httpMethod=GET",
        "%24httpHeaders=x",
        "$req=x",
        "upload_protocol=raw",
        "location=US&location=EU",
        "X-HTTP-Method-Override=GET",
    ] {
        let refused = call("POST", &format!("{path}?{query}"));
        assert_eq!(refused.check().map_err(|e| e.category()), Err("ambiguous_request"), "{query}");
    }
    let two_types = call_with(
        "POST",
        path,
        &[("content-type", "application/json"), ("content-type", "application/grpc")],
    );
    assert!(two_types.check().is_err());
    for query in ["$.xgafv=2", "alt=json&prettyPrint=false&fields=rows", "$alt=json;enum-encoding=int"] {
        assert_eq!(call("POST", &format!("{path}?{query}")).check(), Ok(()), "{query}");
    }
}

#[test]
fn sister_services_have_methods_of_their_own() {
    let asked = |verb: Method, host: &str, target: &str| {
        recognise(&verb, host, &target.parse().expect("target"), &HeaderMap::new())
    };
    let create = asked(
        Method::POST,
        "bigqueryconnection.googleapis.com",
        "/v1/projects/p/locations/us/connections?connectionId=c&alt=json",
    );
    assert_eq!(create.method, "bigqueryconnection.projects.locations.connections.create");
    assert_eq!(
        (create.project.as_deref(), create.body, create.check()),
        (Some("p"), BodyPlan::Deciding, Ok(()))
    );
    let coded = asked(
        Method::POST,
        "bigquerydatatransfer.googleapis.com",
        "/v1/projects/p/transferConfigs?authorizationCode=s3cret",
    );
    assert_eq!(coded.http.path, "/v1/projects/p/transferConfigs?authorizationCode=REDACTED");
    for (host, target) in [
        ("bigqueryconnection.googleapis.com", "/v1/projects/p/locations/us/reservations"),
        ("bigqueryreservation.googleapis.com", "/v1/projects/p/locations/us/reservations:mystery"),
        ("bigquerymigration.googleapis.com", "/v2/projects/p/locations/us/workflows"),
    ] {
        let refused = asked(Method::GET, host, target).check().map_err(|error| error.category());
        assert_eq!(refused, Err("unknown_method"), "{host}{target}");
    }
}

#[test]
fn bigquerys_paths_on_other_hosts_are_unknown() {
    let asked = |host: &str, target: &str| other(&Method::POST, host, &target.parse().expect("target"));
    for (host, target) in [
        ("storage.googleapis.com", "/bigquery/v2/projects/p/queries?key=s3cret"),
        ("OAuth2.googleapis.com", "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable"),
        ("pubsub.googleapis.com", "/google.cloud.bigquery.v2.JobService/InsertJob"),
        ("storage.googleapis.com", "https://storage.googleapis.com/x/../bigquery/v2/projects/p/queries"),
    ] {
        let refused = asked(host, target);
        assert_eq!((refused.method, refused.http.host), (UNKNOWN_METHOD, host.to_ascii_lowercase()));
        assert!(!refused.http.path.contains("s3cret"));
        let refusal = refused.refusal.expect("refused");
        assert_eq!(refusal.category(), "unknown_method", "{target}");
        assert!(!refusal.to_string().contains("s3cret"));
    }
    let object = asked("storage.googleapis.com", "/upload/storage/v1/b/bigquery/o?uploadType=media");
    assert_eq!((object.method, object.check()), (OTHER_METHOD, Ok(())));
}
