#!/bin/sh
# Install Postfix without a configuration, and without starting it: the tests run their own.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
apt-get install -y --no-install-recommends postfix
