"""The meaning of each keyword of ssh_config(5) for ringtasks.

OpenSSH's own connections honour their files by themselves, except for the keywords that ringtasks
sets on their command line.  This table is about the rest: the connections in process, which
Paramiko makes, and the settings that no connection of ringtasks can have.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ringtasks.errors import UsageError

__all__ = ["KEYWORDS", "Meaning", "check", "check_in_process", "methods_of_openssh"]


class Meaning(enum.Enum):
    """The meaning of a keyword."""

    HONOURED = "it counts over both kinds of link"
    SHELL = "it counts in the task shell"
    OURS = "ringtasks sets it, whatever the file says"
    IRRELEVANT = "it changes nothing for commands, files and tunnels"
    OPENSSH = "it counts over OpenSSH's links; in process it is an error"
    OPENSSH_METHOD = "a way to log in that OpenSSH's links have; in process it is named if refused"
    ERROR = "no link can honour it"


def _all(meaning: Meaning, names: str) -> dict[str, Meaning]:
    return dict.fromkeys(names.split(), meaning)


#: By the names that ``ssh -G`` prints, in lower case; also those of newer and older releases.
KEYWORDS: Mapping[str, Meaning] = {
    **_all(
        Meaning.HONOURED,
        "addkeystoagent addressfamily bindaddress canonicaldomains canonicalizefallbacklocal "
        "canonicalizehostname canonicalizemaxdots canonicalizepermittedcnames certificatefile "
        "ciphers compression connecttimeout forwardagent globalknownhostsfile host "
        "hostkeyalgorithms hostkeyalias hostname identitiesonly identityagent identityfile "
        "ignoreunknown kbdinteractiveauthentication kexalgorithms knownhostscommand macs "
        "numberofpasswordprompts passwordauthentication port preferredauthentications "
        "proxycommand proxyjump "
        "pubkeyacceptedalgorithms pubkeyacceptedkeytypes pubkeyauthentication sendenv "
        "serveralivecountmax serveraliveinterval setenv stricthostkeychecking tag user "
        "userknownhostsfile challengeresponseauthentication casignaturealgorithms "
        "requiredrsasize",
    ),
    **_all(Meaning.SHELL, "remotecommand requesttty"),
    **_all(
        Meaning.OURS,
        "batchmode checkhostip clearallforwardings controlmaster controlpath controlpersist "
        "dynamicforward forkafterauthentication hashknownhosts localcommand localforward loglevel "
        "nohostauthenticationforlocalhost permitlocalcommand permitremoteopen remoteforward "
        "sessiontype stdinnull syslogfacility logverbose updatehostkeys verifyhostkeydns "
        "exitonforwardfailure gatewayports",
    ),
    **_all(
        Meaning.IRRELEVANT,
        "connectionattempts enableescapecommandline enablesshkeysign escapechar fingerprinthash "
        "forwardx11 forwardx11timeout forwardx11trusted gssapidelegatecredentials "
        "gssapikexalgorithms gssapikeyexchange gssapirenewalforcesrekey gssapitrustdns "
        "gssapiclientidentity gssapiserveridentity hostbasedacceptedalgorithms "
        "hostbasedkeytypes ipqos obscurekeystroketiming rekeylimit "
        "streamlocalbindmask streamlocalbindunlink tcpkeepalive tunnel tunneldevice "
        "usekeychain versionaddendum visualhostkey warnweakcrypto xauthlocation",
    ),
    **_all(Meaning.OPENSSH, "channeltimeout revokedhostkeys"),
    **_all(
        Meaning.OPENSSH_METHOD,
        "gssapiauthentication hostbasedauthentication pkcs11provider securitykeyprovider "
        "smartcarddevice",
    ),
    **_all(Meaning.ERROR, "bindinterface proxyusefdpass refuseconnection"),
}


def check(ssh_config: Mapping[str, Any], host: str) -> None:
    """Check the settings of a host.

    :param ssh_config: keyword in lower case to value; a missing one is not configured.
    :raises UsageError: no link of ringtasks can honour one of them.
    """
    for keyword in _configured(ssh_config, Meaning.ERROR):
        raise UsageError(
            f"{host}: ssh_config: {keyword} {_shown(ssh_config[keyword])}: ringtasks cannot do "
            "that: remove it for this host, or use 'ssh' itself"
        )


def check_in_process(ssh_config: Mapping[str, Any], host: str) -> None:
    """Check the settings of a host that is reached in process.

    :raises UsageError: only OpenSSH can honour one of them.
    """
    for keyword in _configured(ssh_config, Meaning.OPENSSH):
        raise UsageError(
            f"{host}: ssh_config: {keyword} {_shown(ssh_config[keyword])}: only OpenSSH can do "
            "that, and this connection is made in process: set use_control_master, or remove it"
        )


def methods_of_openssh(ssh_config: Mapping[str, Any]) -> list[str]:
    """Return the configured ways to log in that only OpenSSH's links have."""
    unused = {"no", "none", "internal"}
    return [
        keyword
        for keyword in _configured(ssh_config, Meaning.OPENSSH_METHOD)
        # Debian turns GSSAPI on for all hosts; it matters to those who have a ticket.
        if ssh_config[keyword] not in unused
        and (keyword != "gssapiauthentication" or "KRB5CCNAME" in os.environ)
    ]


def _configured(ssh_config: Mapping[str, Any], meaning: Meaning) -> Iterator[str]:
    return (keyword for keyword in sorted(ssh_config) if KEYWORDS.get(keyword) is meaning)


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, list | tuple) else str(value)
