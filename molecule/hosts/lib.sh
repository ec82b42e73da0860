# shellcheck shell=bash disable=SC2034
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Functions and variables for the scripts that source this file.

cache_dir=${XDG_CACHE_HOME:-$HOME/.cache}/itsm-nexus-runbook
# The Debian release on the hosts.
suite=${DRILL_SUITE:-trixie}
image_repository=localhost/itsm-nexus-runbook-host-$suite

say() {
    printf '%s: %s\n' "${0##*/}" "$*"
}

die() {
    say "$*" >&2
    exit 1
}

# The image name contains a hash of the package list and the recipe. If one of these files changes, the next run builds
# a new image.
image_name() {
    local hosts=$1 hash
    hash=$(cat "$hosts"/packages.txt "$hosts"/finish "$hosts"/build-image | sha256sum)
    printf '%s:%s' "$image_repository" "${hash:0:12}"
}

# Prints the URL of the Debian mirror that apt uses on this machine. The image requires no other apt settings from this
# machine.
mirror_of_debian() {
    local found
    # shellcheck disable=SC2016 # the fields are apt's
    found=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' |
        awk '!found && $2 !~ /-/ { print $1; found = 1 }')
    [ -n "$found" ] || die "apt on this machine has no Debian repository"
    printf '%s' "$found"
}
