#!/usr/bin/env bash
# Copies a bundle into the demo app on a phone. The debug build of the app must be installed there.
#
#   ./install_bundle.sh BUNDLE [NAME]     NAME: shown in the app (default: the name of the folder)
#
# With several phones: ANDROID_SERIAL=… ./install_bundle.sh BUNDLE
set -euo pipefail

app=io.github.pannslitert.demo

fail() {
    echo "error: $1" >&2
    exit 2
}

[ $# -ge 1 ] && [ $# -le 2 ] || fail "expected install_bundle.sh BUNDLE [NAME]"
bundle=$1
[ -d "$bundle" ] || fail "$bundle is not a folder; expected a bundle that \`panns-litert convert\` wrote"
name=${2:-$(basename "$(realpath "$bundle")")}
[[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || fail "name '$name'; expected only letters, digits, dots, - and _"
[ -f "$bundle/manifest.json" ] || fail "$bundle has no manifest.json; expected a bundle that \`panns-litert convert\` wrote"
[ -f "$bundle/selftest.json" ] && [ -f "$bundle/selftest.pcm" ] ||
    fail "$bundle has no self-test, and the app shows no tags without one; convert it again: \`panns-litert convert\`"

command -v adb >/dev/null || fail "no adb; it is part of the Android SDK's platform-tools"
if [ -z "${ANDROID_SERIAL:-}" ]; then
    phones=$(adb devices | awk 'NR > 1 && $2 == "device" { print $1 }')
    case $(grep -c . <<<"$phones" || true) in
        0) fail "adb sees no phone; connect one, allow USB debugging, and confirm on its screen" ;;
        1) ANDROID_SERIAL=$phones ;;
        *) fail "adb sees several phones; choose one: ANDROID_SERIAL=$(head -n 1 <<<"$phones") $0 $bundle" ;;
    esac
fi
export ANDROID_SERIAL

on_phone() { adb shell "$1" </dev/null; }
in_app() { on_phone "run-as $app sh -c '$1'"; }

in_app true || fail "$app is not on $ANDROID_SERIAL as a debug build; run it from Android Studio first"

shared=/data/local/tmp
staging=$shared/panns-litert-$name
on_phone "rm -rf $staging"
trap 'on_phone "rm -rf $staging" || true' EXIT
adb push "$bundle" "$staging"
on_phone "chmod -R a+rX $staging"
# The app is stopped, so that it does not keep the old bundle, and the new one is moved into place when it is complete.
on_phone "am force-stop $app"
in_app "mkdir -p files/bundles && rm -rf files/$name.part && cp -r $staging files/$name.part"
in_app "rm -rf files/bundles/$name && mv files/$name.part files/bundles/$name"
echo "$bundle is on $ANDROID_SERIAL as '$name'; open the app and choose it there"
