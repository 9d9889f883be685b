//! The cloud integrations of the demo's service instance: their life cycle and their one-time external ids.

use std::{collections::VecDeque, time::SystemTime};

use serde_json::{Map, Value, json};

use super::{envelope::Refused, random};

const MAX_INTEGRATIONS: usize = 1000;
const MAX_EXTERNAL_IDS: usize = 1000;
const MAX_DEFINITION: usize = 64 * 1024;
const DEFAULT_PAGE: usize = 100;
const USER: &str = "demo-user@example.com";

/// The services of the AWS integration: the value of `service`, and the field that holds its settings.
const SERVICES: [(&str, &str); 3] = [
    ("CLOUDWATCH", "cloudWatch"),
    ("CLOUDTRAIL", "cloudTrail"),
    ("EC2", "ec2"),
];

/// These belong to the service; what a client sends in them is dropped.
const KEPT_BY_THE_SERVICE: [&str; 11] = [
    "id",
    "deleted",
    "inTrash",
    "createdEpochMillis",
    "updatedEpochMillis",
    "creatorId",
    "updaterId",
    "lastProcessorId",
    "lastProcessingTimestamp",
    "lastReceivedDataPointMs",
    "lastMetricCount",
];

type Outcome = Result<Value, Refused>;

/// All integrations, oldest first, and the external ids that nobody has used yet.
#[derive(Debug, Default)]
pub(super) struct CloudIntegrations {
    all: Vec<Map<String, Value>>,
    external_ids: VecDeque<String>,
}

impl CloudIntegrations {
    /// An external id that will do for one creation. When too many are unused, the oldest is forgotten.
    pub(super) fn issue_external_id(&mut self) -> String {
        if self.external_ids.len() == MAX_EXTERNAL_IDS {
            self.external_ids.pop_front();
        }
        let id = random::alphanumeric(16);
        self.external_ids.push_back(id.clone());
        id
    }

    pub(super) fn confirm_external_id(&self, id: &str) -> Outcome {
        if self.external_ids.iter().any(|unused| unused == id) {
            return Ok(json!(id));
        }
        Err(Refused::not_found("no such external id"))
    }

    pub(super) fn delete_external_id(&mut self, id: &str) -> Outcome {
        let confirmed = self.confirm_external_id(id)?;
        self.external_ids.retain(|unused| unused != id);
        Ok(confirmed)
    }

    /// One page of what is not in the trash.
    pub(super) fn list(&self, offset: usize, limit: Option<usize>) -> Value {
        let limit = limit.unwrap_or(DEFAULT_PAGE).min(MAX_INTEGRATIONS);
        let visible = || self.all.iter().filter(|item| !in_trash(item));
        let total = visible().count();
        let items: Vec<_> = visible().skip(offset).take(limit).collect();
        json!({
            "items": items,
            "offset": offset,
            "limit": limit,
            "totalItems": total,
            "moreItems": offset.saturating_add(items.len()) < total,
            "cursor": null,
            "sort": null,
        })
    }

    pub(super) fn get(&self, id: &str) -> Outcome {
        let found = self.all.iter().find(|item| has_id(item, id));
        found
            .map(|item| json!(item))
            .ok_or_else(|| Refused::not_found("no such cloud integration"))
    }

    pub(super) fn create(&mut self, body: &[u8]) -> Outcome {
        if self.all.len() >= MAX_INTEGRATIONS {
            return Err(Refused::bad_request("the demo holds no more integrations"));
        }
        let (mut item, settings) = parse(body)?;
        let external_id = credential(&item, settings, "externalId")?;
        self.delete_external_id(&external_id).map_err(|_| {
            Refused::bad_request("externalId was never issued, or has been used already")
        })?;
        let now = epoch_millis();
        item.extend([
            ("id".to_owned(), json!(random::uuid())),
            ("deleted".to_owned(), json!(false)),
            ("inTrash".to_owned(), json!(false)),
            ("createdEpochMillis".to_owned(), json!(now)),
            ("updatedEpochMillis".to_owned(), json!(now)),
            ("creatorId".to_owned(), json!(USER)),
            ("updaterId".to_owned(), json!(USER)),
            ("lastProcessorId".to_owned(), json!(random::uuid())),
            ("lastProcessingTimestamp".to_owned(), json!(now)),
            ("lastReceivedDataPointMs".to_owned(), json!(now)),
            ("lastMetricCount".to_owned(), json!(0)),
        ]);
        let created = json!(item);
        self.all.push(item);
        Ok(created)
    }

    /// Replaces what belongs to the client. The external id stays as it was, whether sent or not.
    pub(super) fn update(&mut self, id: &str, body: &[u8]) -> Outcome {
        let (mut new, settings) = parse(body)?;
        self.change(id, |old| {
            refuse_in_trash(old)?;
            if old.get("service") != new.get("service") {
                return Err(Refused::bad_request("service cannot be changed"));
            }
            let external_id = credential(old, settings, "externalId")?;
            if let Some(credentials) = new
                .get_mut(settings)
                .and_then(|settings| settings.get_mut("baseCredentials"))
                .and_then(Value::as_object_mut)
            {
                credentials.insert("externalId".to_owned(), json!(external_id));
            }
            for name in KEPT_BY_THE_SERVICE {
                if let Some(value) = old.remove(name) {
                    new.insert(name.to_owned(), value);
                }
            }
            *old = new;
            Ok(())
        })
    }

    pub(super) fn set_disabled(&mut self, id: &str, disabled: bool) -> Outcome {
        self.change(id, |item| {
            refuse_in_trash(item)?;
            item.insert("disabled".to_owned(), json!(disabled));
            Ok(())
        })
    }

    /// Moves an integration to the trash, or removes it for good.
    pub(super) fn delete(&mut self, id: &str, skip_trash: bool) -> Outcome {
        let deleted = self.change(id, |item| {
            set_in_trash(item, true);
            Ok(())
        })?;
        if skip_trash {
            self.all.retain(|item| !has_id(item, id));
        }
        Ok(deleted)
    }

    pub(super) fn undelete(&mut self, id: &str) -> Outcome {
        self.change(id, |item| {
            if !in_trash(item) {
                return Err(Refused::bad_request(
                    "the cloud integration is not in the trash",
                ));
            }
            set_in_trash(item, false);
            Ok(())
        })
    }

    fn change(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Map<String, Value>) -> Result<(), Refused>,
    ) -> Outcome {
        let item = self
            .all
            .iter_mut()
            .find(|item| has_id(item, id))
            .ok_or_else(|| Refused::not_found("no such cloud integration"))?;
        change(item)?;
        item.insert("updatedEpochMillis".to_owned(), json!(epoch_millis()));
        item.insert("updaterId".to_owned(), json!(USER));
        Ok(json!(item))
    }
}

/// Checks what creating and updating have in common. Also returns the name of the field with the service's settings.
fn parse(body: &[u8]) -> Result<(Map<String, Value>, &'static str), Refused> {
    if body.len() > MAX_DEFINITION {
        return Err(Refused::bad_request(
            "the demo keeps definitions of at most 64 KiB",
        ));
    }
    let Ok(Value::Object(mut item)) = serde_json::from_slice(body) else {
        return Err(Refused::bad_request("the body has to be a JSON object"));
    };
    item.retain(|name, _| !KEPT_BY_THE_SERVICE.contains(&name.as_str()));
    if text(&item, "name").is_none_or(str::is_empty) {
        return Err(Refused::bad_request("name is required"));
    }
    let service = text(&item, "service").map(str::to_ascii_uppercase);
    let (service, settings) = SERVICES
        .into_iter()
        .find(|(name, _)| service.as_deref() == Some(name))
        .ok_or_else(|| {
            Refused::bad_request(
                "service has to be CLOUDWATCH, CLOUDTRAIL or EC2; the demo knows no other",
            )
        })?;
    credential(&item, settings, "roleArn")?;
    if service == "CLOUDTRAIL" {
        setting(&item, settings, "/bucketName")?;
        setting(&item, settings, "/region")?;
    }
    item.insert("service".to_owned(), json!(service));
    for (name, default) in [
        ("forceSave", json!(false)),
        ("disabled", json!(false)),
        ("serviceRefreshRateInMins", json!(5)),
    ] {
        // A null is how some clients say nothing.
        let value = item.entry(name).or_insert(Value::Null);
        if value.is_null() {
            *value = default;
        }
    }
    Ok((item, settings))
}

fn credential(item: &Map<String, Value>, settings: &str, name: &str) -> Result<String, Refused> {
    setting(item, settings, &format!("/baseCredentials/{name}"))
}

/// A text that is required, by its JSON pointer (RFC 6901) within the settings of the service.
fn setting(item: &Map<String, Value>, settings: &str, pointer: &str) -> Result<String, Refused> {
    item.get(settings)
        .and_then(|settings| settings.pointer(pointer))
        .and_then(Value::as_str)
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| {
            Refused::bad_request(format!(
                "{settings}{} is required",
                pointer.replace('/', ".")
            ))
        })
}

fn text<'a>(item: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    item.get(name).and_then(Value::as_str)
}

fn has_id(item: &Map<String, Value>, id: &str) -> bool {
    text(item, "id") == Some(id)
}

fn in_trash(item: &Map<String, Value>) -> bool {
    item.get("inTrash").and_then(Value::as_bool) == Some(true)
}

fn set_in_trash(item: &mut Map<String, Value>, in_trash: bool) {
    item.insert("inTrash".to_owned(), json!(in_trash));
    item.insert("deleted".to_owned(), json!(in_trash));
}

fn refuse_in_trash(item: &Map<String, Value>) -> Result<(), Refused> {
    if in_trash(item) {
        return Err(Refused::bad_request(
            "the cloud integration is in the trash",
        ));
    }
    Ok(())
}

fn epoch_millis() -> u64 {
    let elapsed = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(external_id: &str) -> Value {
        json!({
            "name": "CloudWatch integration",
            "service": "cloudwatch",
            "cloudWatch": {
                "baseCredentials": { "roleArn": "arn:aws:iam::123456789012:role/demo", "externalId": external_id },
                "metricFilterRegex": "^aws.(sqs|ec2|ebs|elb).*$",
            },
        })
    }

    fn create(integrations: &mut CloudIntegrations) -> String {
        let external_id = integrations.issue_external_id();
        let created = integrations
            .create(definition(&external_id).to_string().as_bytes())
            .unwrap();
        created["id"].as_str().unwrap().to_owned()
    }

    fn status<T: std::fmt::Debug>(outcome: Result<T, Refused>) -> u16 {
        outcome.unwrap_err().status.as_u16()
    }

    #[test]
    fn an_external_id_creates_one_integration() {
        let mut integrations = CloudIntegrations::default();
        let external_id = integrations.issue_external_id();
        let body = definition(&external_id).to_string();
        let created = integrations.create(body.as_bytes()).unwrap();
        assert_eq!(created["service"], "CLOUDWATCH");
        assert_eq!(created["disabled"], false);
        assert_eq!(created["serviceRefreshRateInMins"], 5);

        assert_eq!(status(integrations.create(body.as_bytes())), 400);
        let unknown = definition("guessed").to_string();
        assert_eq!(status(integrations.create(unknown.as_bytes())), 400);
    }

    #[test]
    fn a_refused_creation_leaves_the_external_id_usable() {
        let mut integrations = CloudIntegrations::default();
        let external_id = integrations.issue_external_id();
        let mut nameless = definition(&external_id);
        nameless["name"] = Value::Null;
        assert_eq!(
            status(integrations.create(nameless.to_string().as_bytes())),
            400
        );
        assert!(integrations.confirm_external_id(&external_id).is_ok());
    }

    #[test]
    fn an_update_needs_no_external_id_and_cannot_touch_what_the_service_keeps() {
        let mut integrations = CloudIntegrations::default();
        let id = create(&mut integrations);
        let before = integrations.get(&id).unwrap();
        let update = json!({
            "id": "mine", "deleted": true, "creatorId": "me",
            "name": "renamed", "service": "CLOUDWATCH", "serviceRefreshRateInMins": 10,
            "cloudWatch": {
                "namespaces": ["AWS/DynamoDB", "AWS/EBS"],
                "baseCredentials": { "roleArn": "arn:aws:iam::123456789012:role/demo" },
            },
        });
        let after = integrations
            .update(&id, update.to_string().as_bytes())
            .unwrap();
        assert_eq!(after["name"], "renamed");
        assert_eq!(after["serviceRefreshRateInMins"], 10);
        assert_eq!(after["cloudWatch"]["namespaces"][1], "AWS/EBS");
        for kept in ["id", "deleted", "creatorId", "createdEpochMillis"] {
            assert_eq!(after[kept], before[kept], "{kept}");
        }
        let external_id = "/cloudWatch/baseCredentials/externalId";
        assert_eq!(after.pointer(external_id), before.pointer(external_id));
    }

    #[test]
    fn the_trash_gives_back_unless_it_was_skipped() {
        let mut integrations = CloudIntegrations::default();
        let id = create(&mut integrations);
        assert_eq!(integrations.delete(&id, false).unwrap()["inTrash"], true);
        assert_eq!(integrations.list(0, None)["totalItems"], 0);
        assert_eq!(integrations.get(&id).unwrap()["deleted"], true);
        assert_eq!(status(integrations.set_disabled(&id, true)), 400);

        assert_eq!(integrations.undelete(&id).unwrap()["inTrash"], false);
        assert_eq!(status(integrations.undelete(&id)), 400);
        assert_eq!(
            integrations.set_disabled(&id, true).unwrap()["disabled"],
            true
        );
        assert_eq!(
            integrations.set_disabled(&id, false).unwrap()["disabled"],
            false
        );

        integrations.delete(&id, true).unwrap();
        assert_eq!(status(integrations.get(&id)), 404);
        assert_eq!(status(integrations.undelete(&id)), 404);
    }

    #[test]
    fn a_list_comes_in_pages() {
        let mut integrations = CloudIntegrations::default();
        let ids: Vec<String> = (0..5).map(|_| create(&mut integrations)).collect();
        for (offset, limit, expected, more) in [
            (0, None, &ids[..], false),
            (0, Some(2), &ids[..2], true),
            (4, Some(2), &ids[4..], false),
            (9, Some(2), &[][..], false),
        ] {
            let page = integrations.list(offset, limit);
            let shown: Vec<&str> = page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].as_str().unwrap())
                .collect();
            assert_eq!(shown, expected);
            assert_eq!(
                (&page["moreItems"], &page["totalItems"]),
                (&json!(more), &json!(5))
            );
        }
    }

    #[test]
    fn says_which_field_is_missing() {
        let body = json!({ "name": "n", "service": "EC2", "ec2": { "baseCredentials": {} } });
        assert_eq!(
            CloudIntegrations::default().create(body.to_string().as_bytes()),
            Err(Refused::bad_request(
                "ec2.baseCredentials.roleArn is required"
            ))
        );
    }
}
