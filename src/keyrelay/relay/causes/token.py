"""Why no usable access token was issued (RFC 6749 section 5.2, and Microsoft's own numbers in its descriptions)."""

from __future__ import annotations

from keyrelay.relay.causes.model import Cause

_MICROSOFT_ERRORS = "Microsoft: Entra authentication and authorization error codes"

TOKEN: tuple[Cause, ...] = (
    # --- Microsoft Entra ID ---
    Cause(
        id="entra-secret-wrong",
        stages=("token",),
        kinds=("status",),
        pattern=r"AADSTS7000215",
        sentence="Microsoft does not know the client secret. Most often the secret's ID was copied instead of its "
        "Value.",
        remedy="In the Entra admin center, App registrations, your app, Certificates & secrets: make a new client "
        "secret, copy the column Value (shown only once) and give it as ClientSecret.",
        more=_MICROSOFT_ERRORS,
    ),
    Cause(
        id="entra-secret-expired",
        stages=("token",),
        kinds=("status",),
        pattern=r"AADSTS7000222",
        sentence="The client secret at Microsoft has expired.",
        remedy="In the Entra admin center, App registrations, your app, Certificates & secrets: make a new client "
        "secret, give its Value as ClientSecret, and note its end date.",
        more=_MICROSOFT_ERRORS,
    ),
    Cause(
        id="entra-app-unknown",
        stages=("token",),
        kinds=("status",),
        pattern=r"AADSTS(700016|7000229)",
        sentence="Microsoft knows no such application in the tenant that TokenEndpoint names.",
        remedy="ClientId must be the Application (client) ID from the app's Overview, not an Object ID; the tenant in "
        "TokenEndpoint must be the Directory (tenant) ID from the same page. An administrator must have consented.",
        more=_MICROSOFT_ERRORS,
    ),
    Cause(
        id="entra-tenant-unknown",
        stages=("token",),
        kinds=("status",),
        pattern=r"AADSTS(90002|900023|900021)\b",
        sentence="Microsoft knows no tenant of the name or ID in TokenEndpoint.",
        remedy="Put the Directory (tenant) ID from the Entra admin center into TokenEndpoint: "
        "https://login.microsoftonline.com/TENANT/oauth2/v2.0/token. A national cloud has another host.",
        more=_MICROSOFT_ERRORS,
    ),
    Cause(
        id="entra-scope-not-default",
        stages=("token",),
        kinds=("status",),
        pattern=r"AADSTS(1002012|70011)\b",
        sentence="Microsoft does not accept the Scope: without a person signing in, it must be a resource followed by "
        "/.default.",
        remedy="Set Scope to https://outlook.office365.com/.default for Exchange Online (national clouds have their "
        "own host).",
        more=_MICROSOFT_ERRORS,
    ),
    Cause(
        id="entra-resource-unknown",
        stages=("token",),
        kinds=("status",),
        pattern=r"AADSTS(500011|650057)\b",
        sentence="Microsoft does not know the resource in Scope, or the application has no permission for it.",
        remedy="Set Scope to https://outlook.office365.com/.default, and give the app the application permission "
        "SMTP.SendAsApp of Office 365 Exchange Online, with admin consent.",
        more=_MICROSOFT_ERRORS,
    ),
    Cause(
        id="entra-assertion-refused",
        stages=("token",),
        kinds=("status",),
        pattern=r"AADSTS7000(27|24|23)\b",
        sentence="Microsoft did not accept the assertion that was signed with the private key.",
        remedy="Upload the certificate that belongs to the key in ClientSecret (App registrations, your app, "
        "Certificates & secrets, Certificates), check that it has not expired, and check the clock of this machine.",
        more=_MICROSOFT_ERRORS,
    ),
    Cause(
        id="entra-no-credentials",
        stages=("token",),
        kinds=("status",),
        pattern=r"AADSTS7000218",
        sentence="Microsoft saw neither a client secret nor an assertion.",
        remedy="Give ClientSecret again. If a proxy or a RequestHeaders entry changes the request, take it away.",
        more=_MICROSOFT_ERRORS,
    ),
    Cause(
        id="entra-access-blocked",
        stages=("token",),
        kinds=("status",),
        pattern=r"AADSTS(530\d\d|7000112)\b",
        sentence="Microsoft knows the application and does not let it sign in: it is disabled, or a conditional "
        "access policy blocks it.",
        remedy="In the Entra admin center look at Sign-in logs, Service principal sign-ins: the entry names the "
        "policy. Under Enterprise applications, your app, Properties, sign-in must be enabled.",
        more=_MICROSOFT_ERRORS,
    ),
    # --- Any identity server ---
    Cause(
        id="token-assertion-clock",
        stages=("token",),
        kinds=("status",),
        pattern=r"(jwt|assertion|iat|exp|nbf)\b.{0,60}(expired|future|not active|too long|time ?frame|reasonable)",
        sentence="The token endpoint {endpoint} finds the times in the signed assertion wrong.",
        remedy="Check the clock of this machine (timedatectl): most often it is some minutes off.",
    ),
    Cause(
        id="token-client-refused",
        stages=("token",),
        kinds=("status",),
        pattern=r"invalid_client",
        sentence="The token endpoint {endpoint} does not accept ClientId and ClientSecret.",
        remedy="Give both again, without spaces around them. Check that the secret has not expired, that the client "
        "belongs to this realm or tenant, and that it is confidential (may have a secret).",
        more="RFC 6749 section 5.2",
    ),
    Cause(
        id="token-client-not-allowed",
        stages=("token",),
        kinds=("status",),
        pattern=r"unauthorized_client|access_denied",
        sentence="The token endpoint {endpoint} knows the client, and does not allow it the client-credentials grant.",
        remedy="Allow it at the identity server: in Keycloak switch on Service accounts roles for the client; in Okta "
        "and Auth0 enable the grant Client Credentials and authorise the client for the API.",
        more="RFC 6749 section 5.2",
    ),
    Cause(
        id="token-grant-unsupported",
        stages=("token",),
        kinds=("status",),
        pattern=r"unsupported_grant_type",
        sentence="The token endpoint {endpoint} does not know the client-credentials grant.",
        remedy="Check that TokenEndpoint is the token address of the right server. Google does not offer this grant "
        "with a client secret: use Basic with an app password, or Google's SMTP relay service.",
        more="RFC 6749 section 4.4",
    ),
    Cause(
        id="token-scope-refused",
        stages=("token",),
        kinds=("status",),
        pattern=r"invalid_scope",
        sentence="The token endpoint {endpoint} does not accept the Scope.",
        remedy="Correct Scope, or allow it to the client at the identity server. For Microsoft it is "
        "https://outlook.office365.com/.default; some servers want none at all.",
        more="RFC 6749 section 5.2",
    ),
    Cause(
        id="token-audience-refused",
        stages=("token",),
        kinds=("status",),
        pattern=r"invalid_target|invalid_resource|\baudience\b",
        sentence="The token endpoint {endpoint} does not accept the Audience.",
        remedy="Set Audience to what the identity server calls the mail service (Auth0: the API's identifier), or "
        "leave it out where there is none.",
        more="RFC 8707 section 2",
    ),
    Cause(
        id="token-assertion-refused",
        stages=("token",),
        kinds=("status",),
        pattern=r"invalid_grant",
        sentence="The token endpoint {endpoint} does not accept the signed assertion.",
        remedy="The public part of the key in ClientSecret must be registered for this client at the identity server, "
        "and the clock of this machine must be right.",
        more="RFC 7523 section 3.1",
    ),
    Cause(
        id="token-proxy-sign-in",
        stages=("token",),
        kinds=("status",),
        codes=(407,),
        sentence="A proxy between here and the token endpoint {endpoint} wants a sign-in of its own.",
        remedy="Have your network team let this machine reach {endpoint} on TCP 443 without a proxy sign-in.",
    ),
    Cause(
        id="token-path-wrong",
        stages=("token",),
        kinds=("status",),
        codes=(404, 405, 410),
        sentence="There is no token endpoint at the path of TokenEndpoint[ (HTTP {status})]; the host {endpoint} is "
        "there.",
        remedy="Take token_endpoint from the identity server's /.well-known/openid-configuration. For Microsoft it is "
        "https://login.microsoftonline.com/TENANT/oauth2/v2.0/token.",
    ),
    Cause(
        id="token-throttled",
        stages=("token",),
        kinds=("status",),
        codes=(429,),
        sentence="The token endpoint {endpoint} has had too many requests and asks to wait.",
        remedy="Wait some minutes. keyrelay keeps a token until it ends; look which other programs use this client.",
        retry=True,
    ),
    Cause(
        id="token-server-failed",
        stages=("token",),
        kinds=("status",),
        codes=(5, 408, 425),
        sentence="The token endpoint {endpoint} is in trouble itself[ (HTTP {status})].",
        remedy="Try again later; look at the status page or the log of the identity server.",
        retry=True,
    ),
    Cause(
        id="token-forbidden",
        stages=("token",),
        kinds=("status",),
        codes=(401, 403),
        sentence="The token endpoint {endpoint} refused[ (HTTP {status})][, with {detail}].",
        remedy="Check ClientId, ClientSecret and RequestHeaders. With 403, a firewall for web applications or an "
        "address rule of the identity server may be in the way: its log tells.",
    ),
    Cause(
        id="token-request-refused",
        stages=("token",),
        kinds=("status",),
        sentence="The token endpoint {endpoint} refused the request[ (HTTP {status})][, with {detail}].",
        remedy="Look at what it says, and check TokenEndpoint, Scope, Audience and RequestHeaders; the identity "
        "server's log knows more.",
        more="RFC 6749 section 5.2",
    ),
    Cause(
        id="token-answer-is-a-page",
        stages=("token",),
        kinds=("not_json",),
        pattern=r"html",
        sentence="The token endpoint {endpoint} answered with a web page instead of a token.",
        remedy="Most often TokenEndpoint is the address for people (…/authorize, or the sign-in page): use the one "
        "that ends in /token. A proxy's notice looks like this too.",
    ),
    Cause(
        id="token-answer-unreadable",
        stages=("token",),
        kinds=("not_json",),
        sentence="The answer of the token endpoint {endpoint} is no JSON[: {detail}].",
        remedy="Check that TokenEndpoint is a token endpoint of OAuth 2.0, and that no proxy changes its answers.",
        more="RFC 6749 section 5.1",
    ),
    Cause(
        id="token-missing",
        stages=("token",),
        kinds=("no_token",),
        sentence="The token endpoint {endpoint} answered without a usable access token[: {detail}].",
        remedy="Check that TokenEndpoint is the token address, and not one for user information or for keys.",
        more="RFC 6749 section 5.1",
    ),
    Cause(
        id="token-already-expired",
        stages=("token",),
        kinds=("token_expired",),
        sentence="The token endpoint {endpoint} issued a token that has ended already[: {detail}].[ The two clocks "
        "are {clock_skew} apart.]",
        remedy="Check the clocks of this machine (timedatectl) and of the identity server; synchronise both.",
    ),
    Cause(
        id="token-redirected",
        stages=("token",),
        kinds=("redirected",),
        sentence="The token endpoint {endpoint} sends callers on to another address; keyrelay does not take the "
        "client secret there.",
        remedy="Set TokenEndpoint to the final address: most often https:// instead of http://, the right host, or a "
        "slash more or less at the end.",
    ),
    Cause(
        id="client-key-unreadable",
        stages=("token",),
        kinds=("bad_key",),
        sentence="ClientSecret looks like a private key, and cannot be used as one[: {detail}].",
        remedy="Give the whole PEM text, from BEGIN to END with its line breaks, without a pass phrase; RSA and EC "
        "keys work.",
    ),
)
