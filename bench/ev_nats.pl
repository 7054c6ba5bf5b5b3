#!/usr/bin/env perl
# One run of one row with Perl's EV::Nats. benchmark.py starts it, and explains rows and arguments.
#
#   perl ev_nats.pl ROW HOST PORT MESSAGES PAYLOAD WINDOW CHECKED
use strict;
use warnings;
use EV;
use EV::Nats;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID);

my ($row, $host, $port, $count, $size, $window, $checked) = @ARGV;
my ($subject, $in_check) = ('bench.subject', 0);
my $nats = EV::Nats->new(
    host       => $host,
    port       => $port,
    on_error   => \&fail,
    on_connect => sub { EV::break },
);
EV::run;

# Wait until the server has processed everything that was published.
sub flush {
    $nats->flush(sub { fail($_[0]) if $_[0]; EV::break });
    EV::run;
}

# Publish $count messages, then flush and wait for the server's confirmation.
sub pub {
    my ($count, $payload) = @_;
    $nats->publish($subject, $payload) for 1 .. $count;
    flush();
}

# Publish to a subscription of this connection; at most $window messages are on the way.
sub pubsub {
    my ($count, $payload, $window) = @_;
    my ($received, $sent, $mark) = (0, 0, 0);
    my $half = int($window / 2);
    my $send = sub {
        my ($portion) = @_;
        $portion = $count - $sent if $portion > $count - $sent;
        $nats->publish($subject, $payload) for 1 .. $portion;
        $sent += $portion;
        $mark = $sent == $count ? $count : $sent - $half;
    };
    my $sid = $nats->subscribe($subject, sub {
        if (++$received == $mark) {
            if   ($received == $count) { EV::break }
            else                       { $send->($half) }
        }
    });
    $send->($window);
    EV::run;
    $nats->unsubscribe($sid);
}

# Send requests to a responder on this connection, $window of them in flight.
sub request {
    my ($count, $payload, $window) = @_;
    my ($sent, $received) = (0, 0);
    my $sid = $nats->subscribe($subject, sub { $nats->publish($_[2], $_[1]) });
    my $answer;
    $answer = sub {
        fail($_[1]) if $_[1];
        $received++;
        if ($sent < $count) {
            $sent++;
            $nats->request($subject, $payload, $answer, 10_000);
        }
        elsif ($received == $count) { EV::break }
    };
    while ($sent < $window && $sent < $count) {
        $sent++;
        $nats->request($subject, $payload, $answer, 10_000);
    }
    EV::run;
    $nats->unsubscribe($sid);
    undef $answer;
}

# Publish @payloads to a subscription of this connection; return how many came back wrong.
sub check_messages {
    my @payloads = @_;
    my @got;
    my $sid = $nats->subscribe($subject, sub { push @got, join '|', map { $_ // '' } @_[0 .. 3] });
    $nats->publish($subject, $_) for @payloads;
    flush();
    $nats->unsubscribe($sid);
    return differences(\@got, [map {"$subject|$_||"} @payloads]);
}

# Send each payload as a request to an echo; return how many answers were wrong.
sub check_requests {
    my @payloads = @_;
    my @got;
    $in_check = 1;
    my $sid = $nats->subscribe($subject, sub { $nats->publish($_[2], $_[1]) });
    for my $payload (@payloads) {
        $nats->request($subject, $payload, sub { push @got, $_[0] // "failed: $_[1]" }, 2_000);
    }
    EV::run(EV::RUN_ONCE) while @got < @payloads;
    return differences(\@got, \@payloads);
}

# Return in how many places the two lists differ.
sub differences {
    my ($got, $expected) = @_;
    my $wrong = abs(@$got - @$expected);
    for my $i (0 .. $#$expected) {
        $wrong++ if $i < @$got && $got->[$i] ne $expected->[$i];
    }
    return $wrong;
}

# Report an error and exit. In the check of the answers a lost connection counts as wrong answers instead.
sub fail {
    return if $in_check;
    print STDERR "EV::Nats: $_[0]\n";
    exit 1;
}

my $run     = { pub => \&pub, pubsub => \&pubsub, request => \&request }->{$row} or fail("no row $row");
my $payload = 'x' x $size;
my $warm    = int($count / 10) || 1;
$run->($warm, $payload, $window);
my ($cpu, $start) = (clock_gettime(CLOCK_PROCESS_CPUTIME_ID), clock_gettime(CLOCK_MONOTONIC));
$run->($count, $payload, $window);
my $elapsed = clock_gettime(CLOCK_MONOTONIC) - $start;
$cpu = clock_gettime(CLOCK_PROCESS_CPUTIME_ID) - $cpu;
my @numbered = map { substr sprintf('%0*d', $size, $_), -$size } 0 .. $checked - 1;
my $wrong = $row eq 'request' ? check_requests(@numbered) : check_messages(@numbered);
printf qq({"ns": %.0f, "cpu_ns": %.0f, "wrong": %d}\n), $elapsed * 1e9, $cpu * 1e9, $wrong;
