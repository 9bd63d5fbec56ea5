"""What the provider types that come with keyrelay are for, and what their parameters mean, in a sentence each."""

from __future__ import annotations

from collections.abc import Mapping

_VAULT: Mapping[str, str] = {
    "Host": "Address of the vault, such as https://vault.example.org:8200.",
    "Path": "Where the secrets are: v1/secret/data for a KV engine of version 2, v1/kv for one of version 1.",
    "Namespace": "Namespace in the vault, where it has some.",
    "Secret": "Name of the secret below that path, such as mail/smtp.",
    "Key": "Which member of the secret, such as password.",
}
_AZURE: Mapping[str, str] = {
    "KeyVaultUri": "Address of the vault, such as https://name.vault.azure.net.",
    "AuthorityHost": "Where to sign in: public, china, government, or an address of Microsoft's.",
    "SecretId": "Name of the secret, or name/version.",
}

TYPES: Mapping[str, str] = {
    "LocalDB": "Secrets that keyrelay itself keeps, encrypted, in its own database. Nothing else is needed.",
    "Hashicorp-Vault": "HashiCorp Vault or OpenBao, signed in with a token.",
    "Hashicorp-Vault-AppRole": "HashiCorp Vault or OpenBao, signed in with an AppRole.",
    "Hashicorp-Vault-Kubernetes": "HashiCorp Vault or OpenBao, signed in as the pod's service account.",
    "CyberArk-CentralCredentialProvider": "CyberArk's Central Credential Provider.",
    "Delinea-SecretServer": "Delinea Secret Server.",
    "Azure-KeyVault": "Azure Key Vault, signed in as this machine (managed identity, workload identity).",
    "Azure-KeyVault-ServicePrincipal": "Azure Key Vault, signed in with a client secret.",
    "AWS-SecretsManager": "AWS Secrets Manager, signed in as this machine or with an access key.",
    "GCP-SecretManager": "Google Cloud Secret Manager, signed in as this machine.",
    "Akeyless": "Akeyless, signed in with an access key.",
    "BeyondTrust-PasswordSafe": "BeyondTrust Password Safe.",
    "Mounted-File": "Files that the platform mounts, below the directory of KEYRELAY_SECRET_FILES.",
    "Environment": "Environment variables whose names begin as KEYRELAY_SECRET_VARIABLES says.",
}

_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "LocalDB": {"SecretName": "Name of the entry."},
    "Hashicorp-Vault": {**_VAULT, "Token": "Token that may read the secrets."},
    "Hashicorp-Vault-AppRole": {
        **_VAULT,
        "RoleId": "Role id of the AppRole.",
        "SecretId": "Secret id of the AppRole.",
        "AuthPath": "Where AppRole is mounted in the vault.",
    },
    "Hashicorp-Vault-Kubernetes": {
        **_VAULT,
        "Role": "Role of the vault's Kubernetes sign-in.",
        "TokenFile": "File with the token of the service account, below the directory of KEYRELAY_SECRET_FILES.",
        "AuthPath": "Where Kubernetes sign-in is mounted in the vault.",
    },
    "CyberArk-CentralCredentialProvider": {
        "AppId": "Application that CyberArk knows keyrelay as.",
        "Host": "Host and port of the web service, such as ccp.example.org:443.",
        "Site": "Path of the web service.",
        "Safe": "Safe that holds the object.",
        "Folder": "Folder in the safe.",
        "Object": "Name of the object whose password is wanted.",
    },
    "Delinea-SecretServer": {
        "Host": "Address of Secret Server, such as https://vault.example.org/SecretServer.",
        "Username": "Account that may read the secrets.",
        "Password": "Password of that account.",
        "SecretId": "Number of the secret.",
        "SecretFieldName": "Which field of the secret, such as password.",
    },
    "Azure-KeyVault": _AZURE,
    "Azure-KeyVault-ServicePrincipal": {
        **_AZURE,
        "TenantId": "Id or domain of the tenant.",
        "ClientId": "Id of the application.",
        "ClientSecret": "A client secret of the application.",
    },
    "AWS-SecretsManager": {
        "Region": "Region of the secrets, such as eu-central-1.",
        "AccessKeyId": "Id of an access key. Without one, keyrelay signs in as this machine.",
        "SecretAccessKey": "Secret part of that access key.",
        "Endpoint": "Another address than the region's own, such as that of a VPC endpoint.",
        "SecretId": "Name or ARN of the secret.",
        "Key": "Which member, where the secret is a JSON object.",
        "VersionStage": "Which version; without it the current one.",
    },
    "GCP-SecretManager": {
        "projectId": "Id of the project.",
        "secretId": "Name of the secret; its latest version is taken.",
    },
    "Akeyless": {
        "Url": "Address of the API, or of a gateway.",
        "AccessId": "Access id of the key.",
        "AccessKey": "The access key.",
        "AuthType": "How to sign in: access_key is the one that works.",
        "SecretName": "Full name of the secret, such as /mail/smtp.",
        "SecretType": "How to read it: static_text, static_json or static_kv.",
        "StaticSecretFieldName": "Which field, for static_json and static_kv.",
    },
    "BeyondTrust-PasswordSafe": {
        "Host": "Address of the API, such as https://safe.example.org/BeyondTrust/api/public/v3.",
        "APIKey": "Key of the API registration.",
        "Username": "User that the requests are made as.",
        "ClientCertificate": "Anything here has the client certificate of KEYRELAY_VAULT_CLIENT_CERT shown.",
        "SystemId": "Number of the managed system.",
        "AccountId": "Number of the managed account.",
    },
    "Mounted-File": {
        "Path": "Path of the file below that directory, such as smtp/password.",
        "Key": "Which member, where the file is a JSON object or lines of KEY=VALUE.",
    },
    "Environment": {"Variable": "Name of the variable."},
}


def of_type(name: str) -> str:
    """What a type is for; "" for one that does not come with keyrelay."""
    return TYPES.get(name, "")


def of_parameter(kind: str, name: str) -> str:
    """What a parameter of a type means; "" for one that does not come with keyrelay."""
    return _PARAMETERS.get(kind, {}).get(name, "")
