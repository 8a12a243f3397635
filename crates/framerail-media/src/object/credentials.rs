//! Credentials from the files of AWS's tools, if the environment has none.

use std::{env, fs, path::PathBuf};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

/// Settings of a profile in `~/.aws/credentials` and `~/.aws/config`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    values: Vec<(AmazonS3ConfigKey, String)>,
}

impl Profile {
    /// The profile that `AWS_PROFILE` names, or `default`; empty where there is none.
    pub(super) fn from_environment() -> Self {
        let name = env::var("AWS_PROFILE").unwrap_or_else(|_| "default".into());
        let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let text = |variable: &str, usual: &str| {
            let path = env::var_os(variable).map_or_else(|| home.join(usual), PathBuf::from);
            fs::read_to_string(path).unwrap_or_default()
        };
        let credentials = text("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
        Self::of(&name, &credentials, &text("AWS_CONFIG_FILE", ".aws/config"))
    }

    fn of(name: &str, credentials: &str, config: &str) -> Self {
        let own = pairs(credentials, &[name]);
        let settings = pairs(config, &[name, &format!("profile {name}")]);
        let mut values: Vec<(AmazonS3ConfigKey, String)> = Vec::new();
        for (key, value) in own.chain(settings) {
            let key = match key {
                "aws_access_key_id" => AmazonS3ConfigKey::AccessKeyId,
                "aws_secret_access_key" => AmazonS3ConfigKey::SecretAccessKey,
                "aws_session_token" => AmazonS3ConfigKey::Token,
                "region" => AmazonS3ConfigKey::Region,
                "endpoint_url" => AmazonS3ConfigKey::Endpoint,
                _ => continue,
            };
            if !values.iter().any(|(known, _)| *known == key) {
                values.push((key, value.to_owned()));
            }
        }
        Self { values }
    }

    /// Adds what the environment has not set. A key's parts stay together: those of a file do not complete one of the environment.
    pub(super) fn completed(self, mut builder: AmazonS3Builder) -> AmazonS3Builder {
        use AmazonS3ConfigKey as Setting;
        let has = |builder: &AmazonS3Builder, key: Setting| builder.get_config_value(&key).is_some();
        let has_own = [Setting::AccessKeyId, Setting::WebIdentityTokenFile, Setting::ContainerCredentialsRelativeUri]
            .into_iter()
            .any(|key| has(&builder, key));
        for (key, value) in self.values {
            let is_set = match key {
                Setting::AccessKeyId | Setting::SecretAccessKey | Setting::Token => has_own,
                Setting::Region => has(&builder, Setting::Region) || has(&builder, Setting::DefaultRegion),
                other => has(&builder, other),
            };
            if !is_set {
                builder = builder.with_config(key, value);
            }
        }
        builder
    }
}

/// Lines `name = value` of these sections.
fn pairs<'a>(text: &'a str, sections: &[&str]) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    let sections: Vec<String> = sections.iter().map(|name| (*name).to_owned()).collect();
    let mut is_inside = false;
    text.lines().filter_map(move |line| {
        if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_inside = sections.iter().any(|section| section == name.trim());
            return None;
        }
        // Indented lines belong to a nested setting.
        let (name, value) = line.split_once('=').filter(|_| is_inside && !line.starts_with([' ', '\t', '#', ';']))?;
        Some((name.trim(), value.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_and_the_environment_wins() {
        let credentials = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n[other]\naws_access_key_id = C\n";
        let config = "[default]\nregion = eu-west-1\ns3 =\n  endpoint_url = http://nested\n[profile other]\nregion=us-west-2\n";
        let value = |profile: Profile, builder: AmazonS3Builder, key| profile.completed(builder).get_config_value(&key);
        let default = || Profile::of("default", credentials, config);
        assert_eq!(value(default(), AmazonS3Builder::new(), AmazonS3ConfigKey::SecretAccessKey).as_deref(), Some("B"));
        assert_eq!(value(default(), AmazonS3Builder::new(), AmazonS3ConfigKey::Region).as_deref(), Some("eu-west-1"));
        assert_eq!(value(default(), AmazonS3Builder::new(), AmazonS3ConfigKey::Endpoint), None);
        let own = AmazonS3Builder::new().with_access_key_id("own").with_region("here");
        assert_eq!(value(default(), own.clone(), AmazonS3ConfigKey::SecretAccessKey), None);
        assert_eq!(value(default(), own, AmazonS3ConfigKey::Region).as_deref(), Some("here"));
        let other = Profile::of("other", credentials, config);
        assert_eq!(value(other, AmazonS3Builder::new(), AmazonS3ConfigKey::Region).as_deref(), Some("us-west-2"));
        assert_eq!(Profile::of("none", credentials, config), Profile::default());
    }
}
